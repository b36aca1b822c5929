//! `/console`: one built-in page that subscribes and shows notifications arriving, for trying things in a browser.
//!
//! Owns: the page and what it may do (its content security policy). The token comes in the address's fragment, which browsers
//! do not send; it never reaches a log.

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

const PAGE: &str = include_str!("console.html");
const PATH_MARK: &str = "{{path}}";
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /console`; `path` is the WebSocket's.
pub(super) fn routes(path: &str) -> BoxedFilter<(Response,)> {
    let page = PAGE.replace(PATH_MARK, path);
    warp::path!("console").and(warp::get()).map(move || answer(&page)).boxed()
}

fn answer(page: &str) -> Response {
    let mut response = Response::new(page.to_owned().into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_connects_to_the_configured_path_and_loads_nothing_from_elsewhere() {
        let page = PAGE.replace(PATH_MARK, "/live");
        assert!(page.contains("const PATH = \"/live\";") && !page.contains(PATH_MARK));
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
