//! Values of flags that need a type of their own.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::Regex;
use rustls::pki_types::ServerName;

use crate::volume::is_valid_object_name;

/// The addresses that a name or number stands for, at least one.
pub(super) fn listen_host(text: &str) -> Result<Arc<[IpAddr]>, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok([address].into());
    }
    let remedy = "give an IP address of this machine, or leave the flag out to listen on all interfaces";
    if text.is_empty() {
        return Err(remedy.into());
    }
    let found = (bare, 0).to_socket_addrs().map_err(|error| format!("{error}; {remedy}"))?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Without trailing or doubled slashes.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(path.components().collect());
    }
    Err("not an absolute path; give the kubelet's --root-dir, such as /var/lib/kubelet".into())
}

pub(super) fn server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("give a host name or an IP address that is in the kubelet's certificate".into()),
    }
}

pub(super) fn kubeconfig(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("give the path of a kubeconfig, or leave the flag or variable out".into());
    }
    Ok(text.to_owned())
}

pub(super) fn node_name(text: &str) -> Result<String, String> {
    if is_valid_object_name(text) {
        return Ok(text.to_owned());
    }
    Err("no name of a node; give it as `kubectl get nodes` prints it, in a pod from spec.nodeName".into())
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("give true, false, 1 or 0".into()),
    }
}

pub(super) fn volume_regex(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(text).map_err(|error| error.to_string())?;
    if regex.capture_names().flatten().any(|name| name == "name") {
        Ok(regex)
    } else {
        Err("it has no group named `name`; write (?P<name>…) around the part of the mountpoint that is the volume's name".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        assert_eq!(listen_host("[::1]"), listen_host("::1"));
        assert_eq!(*listen_host("127.0.0.1").unwrap(), [IpAddr::from([127, 0, 0, 1])]);
        assert!(listen_host("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert!(listen_host("").is_err());
        assert!(listen_host("no such host").unwrap_err().contains("give an IP address"));
    }

    #[test]
    fn a_regex_must_name_the_volume() {
        assert!(volume_regex("(?P<name>[^/]+)$").is_ok());
        assert!(volume_regex("(?<name>.)(?P<pod_uid>.)").is_ok());
        assert!(volume_regex("(?P<pod_uid>[^/]+)$").unwrap_err().contains("no group named `name`"));
        assert!(volume_regex("(").unwrap_err().contains("unclosed group"));
    }
}
