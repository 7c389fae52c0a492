//! The mount table: bytes to rows, in the formats of `/proc/<pid>/mountinfo` and `/proc/<pid>/mounts`; pure.

use std::borrow::Cow;

/// One row. What the format does not carry is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) id: Option<u64>,
    /// The mount that this one is mounted on.
    pub(crate) parent: Option<u64>,
    pub(crate) device_number: Option<(u32, u32)>,
    pub(crate) root: Option<Cow<'a, [u8]>>,
    pub(crate) mountpoint: Cow<'a, [u8]>,
    pub(crate) options: &'a [u8],
    /// Whether mounts made elsewhere appear below this one: a `shared:` or `master:` tag.
    pub(crate) propagated: Option<bool>,
    /// Whether it was made elsewhere and appeared here, a `master:` tag: what is done to that mount later is not done to this.
    pub(crate) is_copy: bool,
    pub(crate) fstype: Cow<'a, [u8]>,
    pub(crate) source: Cow<'a, [u8]>,
    pub(crate) super_options: &'a [u8],
}

/// Whether a comma-separated list has one of these options.
pub(crate) fn has_option(options: &[u8], wanted: &[&str]) -> bool {
    options.split(|&b| b == b',').any(|option| wanted.iter().any(|wanted| wanted.as_bytes() == option))
}

/// The rows of a table of either format, and the number of lines that are none. Such a line costs itself only.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Row<'_>>, usize) {
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let mut malformed = 0;
    let rows = lines.filter_map(|line| {
        let row = parse_mountinfo(line).or_else(|| parse_mounts(line));
        malformed += usize::from(row.is_none());
        row
    });
    (rows.collect(), malformed)
}

/// `36 35 98:0 /root /mountpoint rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse_mountinfo(line: &[u8]) -> Option<Row<'_>> {
    let mut fields = line.split(|&b| b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut device = fields.next()?.splitn(2, |&b| b == b':');
    let device_number = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(fields.next()?);
    let mountpoint = absolute(fields.next()?)?;
    let options = fields.next()?;
    let (mut is_shared, mut is_copy) = (false, false);
    loop {
        match fields.next()? {
            b"-" => break,
            tag => {
                is_shared |= tag.starts_with(b"shared:");
                is_copy |= tag.starts_with(b"master:");
            }
        }
    }
    Some(Row {
        id: Some(id),
        parent: Some(parent),
        device_number: Some(device_number),
        root: Some(root),
        mountpoint,
        options,
        propagated: Some(is_shared || is_copy),
        is_copy,
        fstype: unescape(fields.next()?),
        source: unescape(fields.next()?),
        super_options: fields.next()?,
    })
}

/// `/dev/sda1 /mountpoint ext4 rw,noatime 0 0`
fn parse_mounts(line: &[u8]) -> Option<Row<'_>> {
    let mut fields = line.split(|&b| b == b' ');
    let source = unescape(fields.next()?);
    let mountpoint = absolute(fields.next()?)?;
    let fstype = unescape(fields.next()?);
    let options = fields.next()?;
    let _dump: u32 = number(fields.next()?)?;
    let _pass: u32 = number(fields.next()?)?;
    fields.next().is_none().then_some(Row {
        id: None,
        parent: None,
        device_number: None,
        root: None,
        mountpoint,
        options,
        propagated: None,
        is_copy: false,
        fstype,
        source,
        // This format merges both kinds of options in one field.
        super_options: options,
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    // Rust also takes a sign.
    field.first().filter(|first| first.is_ascii_digit())?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// What old kernels append to a mountpoint if the directory that is mounted there was removed. The mount is where it was;
/// Kubernetes reads such a row likewise.
const DELETED_SUFFIX: &[u8] = b" (deleted)";

/// A path as the kernel writes it. In a table that is a file, `..` would lead out of the rootfs, and another spelling
/// of a path would make one place two.
fn absolute(field: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut path = unescape(field);
    if let Some(length) = path.strip_suffix(DELETED_SUFFIX).map(<[u8]>::len) {
        path.to_mut().truncate(length);
    }
    let mut names = path.strip_prefix(b"/")?.split(|&b| b == b'/');
    let is_plain = *path == *b"/" || names.all(|name| !matches!(name, b"" | b"." | b".."));
    is_plain.then_some(path)
}

/// Decodes every `\ooo` in one pass, so that an escaped backslash is not read as the begin of another escape.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = octal_escape(rest).unwrap_or((first, tail));
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

fn octal_escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] = bytes else {
        return None;
    };
    Some(((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mountpoints(table: &[u8]) -> Vec<Vec<u8>> {
        let (rows, _) = parse(table);
        rows.into_iter().map(|row| row.mountpoint.into_owned()).collect()
    }

    // The example of proc_pid_mountinfo(5).
    #[test]
    fn reads_every_field_of_a_mountinfo_row() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
        assert_eq!(
            parse(line),
            (
                vec![Row {
                    id: Some(36),
                    parent: Some(35),
                    device_number: Some((98, 0)),
                    root: Some(Cow::Borrowed(b"/mnt1")),
                    mountpoint: Cow::Borrowed(b"/mnt2"),
                    options: b"rw,noatime",
                    propagated: Some(true),
                    is_copy: true,
                    fstype: Cow::Borrowed(b"ext3"),
                    source: Cow::Borrowed(b"/dev/root"),
                    super_options: b"rw,errors=continue",
                }],
                0
            )
        );
    }

    #[test]
    fn reads_every_field_of_a_mounts_row() {
        let (rows, malformed) = parse(b"server:/export /mnt nfs4 ro,vers=4.2 0 0");
        assert_eq!(malformed, 0);
        let [row] = &rows[..] else { panic!("one row expected, got {rows:?}") };
        assert_eq!(
            (&*row.source, &*row.mountpoint, &*row.fstype),
            (&b"server:/export"[..], &b"/mnt"[..], &b"nfs4"[..])
        );
        assert_eq!((row.id, row.device_number, row.propagated, &row.root), (None, None, None, &None));
        assert_eq!((row.options, row.super_options), (&b"ro,vers=4.2"[..], &b"ro,vers=4.2"[..]));
    }

    #[test]
    fn decodes_every_escape_in_one_pass() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"/a\\040b", b"/a b"),
            (b"/a\\011b\\012c", b"/a\tb\nc"),
            (b"/a\\134b", b"/a\\b"),
            (b"/a\\134040b", b"/a\\040b"),
            (b"/\\377\\200", b"/\xff\x80"),
            (b"/\\400", b"/\\400"),
            (b"/\\04", b"/\\04"),
            (b"/\\", b"/\\"),
        ];
        for (escaped, plain) in cases {
            assert_eq!(&*unescape(escaped), plain, "{}", escaped.escape_ascii());
        }
    }

    #[test]
    fn keeps_an_empty_source() {
        let (rows, malformed) = parse(b"1 2 0:3 / /a rw - tmpfs  rw\n /b tmpfs rw 0 0");
        assert_eq!(malformed, 0);
        assert!(rows.iter().all(|row| row.source.is_empty()));
    }

    #[test]
    fn a_bad_line_costs_itself_only() {
        let table = b"1 2 0:3 / /good rw - tmpfs tmpfs rw\n\
            1 2 0:3 / /cut rw\n\
            1 2 0:3 / relative rw - tmpfs tmpfs rw\n\
            x 2 0:3 / /id rw - tmpfs tmpfs rw\n\
            +1 2 0:3 / /sign rw - tmpfs tmpfs rw\n\
            1 2 03 / /device rw - tmpfs tmpfs rw\n\
            1 2 0:3 / /no-super rw - tmpfs tmpfs\n\
            tmpfs /six tmpfs rw 0\n\
            tmpfs /eight tmpfs rw 0 0 0\n\
            \0\xff\xfe\n\
            \n\
            tmpfs /also-good tmpfs rw 0 0\n";
        assert_eq!(mountpoints(table), [&b"/good"[..], b"/also-good"]);
        assert_eq!(parse(table).1, 9);
    }

    // A table that is a file may say anything; joined to the rootfs, such a path would leave it. One that is written
    // in two ways would be two volumes.
    #[test]
    fn a_mountpoint_is_written_as_the_kernel_writes_it() {
        let mounts = |path: &str| {
            let table = format!("1 2 0:3 / {path} rw - t t rw\nt {path} t rw 0 0\n");
            let (rows, malformed) = parse(table.as_bytes());
            (rows.len(), malformed)
        };
        for path in ["/", "/a", "/a/...", "/a/..b/.c", "/a\\040b"] {
            assert_eq!(mounts(path), (2, 0), "{path}");
        }
        for path in ["/..", "/a/../b", "/a/.", "/./a", "//a", "/a//b", "/a/", "/a/\\056\\056/b", "/\\057"] {
            assert_eq!(mounts(path), (0, 2), "{path}");
        }
    }

    #[test]
    fn a_mount_of_a_removed_directory_is_where_it_was() {
        let table = b"1 2 0:3 /src//deleted /a\\040(deleted) rw - t t rw\nt /b\\040(deleted) t rw 0 0\n\
            1 2 0:3 / /c(deleted) rw - t t rw\n1 2 0:3 / /d\\040(deleted)/e rw - t t rw\n";
        assert_eq!(mountpoints(table), [&b"/a"[..], b"/b", b"/c(deleted)", b"/d (deleted)/e"]);
    }

    #[test]
    fn tells_read_only_from_options_that_only_contain_the_letters() {
        let cases: [(&[u8], bool); 6] = [
            (b"rw,errors=remount-ro", false),
            (b"rw,emergency_ro,errors=remount-ro", true),
            (b"rw,shutdown", true),
            (b"ro", true),
            (b"rw,acl=ro_all", false),
            (b"", false),
        ];
        for (options, expected) in cases {
            assert_eq!(has_option(options, &["ro", "emergency_ro", "shutdown"]), expected);
        }
    }

    #[test]
    fn propagation_is_told_by_shared_and_master_alone() {
        let table = b"1 2 0:3 / /a rw shared:4 - t t rw\n1 2 0:3 / /b rw - t t rw\n\
            1 2 0:3 / /c rw master:2 propagate_from:3 - t t rw\n1 2 0:3 / /d rw unbindable - t t rw\n";
        let tags: Vec<_> = parse(table).0.iter().map(|row| (row.propagated, row.is_copy)).collect();
        assert_eq!(
            tags,
            [(Some(true), false), (Some(false), false), (Some(true), true), (Some(false), false)]
        );
    }
}
