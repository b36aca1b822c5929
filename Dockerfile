FROM rust:1.95.0-bookworm AS build
# The Rust of this image, without the components for development that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin tidings

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/tidings --create-home tidings
COPY --from=build /build/target/release/tidings /usr/local/bin/tidings
USER 10001:10001
WORKDIR /var/lib/tidings
VOLUME /var/lib/tidings
ENV TIDINGS_STORE__URL=sqlite:///var/lib/tidings/tidings.db
EXPOSE 3007
ENTRYPOINT ["tidings"]
CMD ["serve"]
