# Each target is one line: what it does is in dev/.
.PHONY: help demo build test chaos check bench fuzz mutants fmt setup

help: ; @sed -n 's/^\([a-z]*\): [^[]*## /\1\t/p' Makefile
demo: ; @dev/demo ## start everything in one process, with sample events flowing
build: ; @dev/build ## the binary for use, target/release/tidings
test: ; @dev/test ## all tests, against a real Kafka that is started for them
chaos: ; @dev/chaos ## every fault under load, several rounds each, and the ledger of what became of each event
check: ; @dev/check ## format, lints, core tests, arrows, docs, licences, scripts, limits
bench: ; @dev/bench ## the budgets, each beside a bare counterpart of the same run
fuzz: ; @dev/fuzz ## drawn bytes for everything that reads bytes from outside
mutants: ; @dev/mutants ## what the core's tests would not notice: changes its code and runs them
fmt: ; @cargo fmt --all ## format the code
setup: ; @dev/setup all ## install what these need, mutants left out (each also does it by itself)
