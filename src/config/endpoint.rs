//! The kubelet's address, as it is typed.

use std::net::Ipv6Addr;

use hyper::Uri;
use hyper::http::uri::Authority;

const REMEDY: &str = "give https://HOST:PORT, or http://HOST:PORT for the read-only port";

/// Parses `https://HOST:PORT`, with a path in front of the kubelet's own where something else stands before it.
pub(super) fn parse(text: &str) -> Result<Uri, String> {
    let uri: Uri = bracketed(text).parse().map_err(|error| format!("{error}; {REMEDY}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("it begins neither with https:// nor with http://; {REMEDY}"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(format!("it has a user's name; {REMEDY}, and a token by --token-path"));
    }
    let has_bad_port = |authority: &Authority| {
        authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0)
    };
    if uri.authority().is_some_and(has_bad_port) {
        return Err(format!("its port is none; {REMEDY}"));
    }
    if uri.query().is_some() || uri.host().is_none_or(str::is_empty) {
        return Err(REMEDY.into());
    }
    Ok(uri)
}

/// A manifest that puts a node's address between `https://` and a port knows of no brackets, which IPv6 needs there.
fn bracketed(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':')?;
        host.parse::<Ipv6Addr>().ok()?;
        Some(format!("{scheme}://[{host}]:{port}{path}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_manifests_put_them_together() {
        let parsed = |text: &str| parse(text).map(|uri| (uri.host().unwrap().to_owned(), uri.port_u16()));
        assert_eq!(parsed("https://127.0.0.1:10250"), Ok(("127.0.0.1".into(), Some(10250))));
        assert_eq!(parsed("http://node-1:10255/"), Ok(("node-1".into(), Some(10255))));
        assert_eq!(parsed("https://[fd00::1]:10250"), Ok(("[fd00::1]".into(), Some(10250))));
        assert_eq!(parsed("https://fd00::1:10250"), Ok(("[fd00::1]".into(), Some(10250))));
        assert_eq!(parse("https://host:1/api/v1/nodes/a/proxy/").unwrap().path(), "/api/v1/nodes/a/proxy/");
    }

    #[test]
    fn what_is_no_address_is_said() {
        let hosts =
            ["", "127.0.0.1:10250", "ftp://x", "https://", "https://a b", "https://x?y", "https://u:p@x"];
        // The scheme's own port would be asked instead.
        let ports =
            ["https://x:", "https://x:99999", "https://x:kubelet", "https://[fd00::1]:0", "http://x:-1/y"];
        for text in hosts.into_iter().chain(ports) {
            let error = parse(text).unwrap_err();
            assert!(error.contains("give https://"), "{text}: {error}");
        }
    }
}
