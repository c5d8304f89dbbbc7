//! Differences between fingerprints of nDPI and the specification by FoxIO.

/// The fingerprint of nDPI, corrected where nDPI is known to deviate from the specification. `ours`
/// is the fingerprint of netwatch for the same hello.
///
/// - The fourth character states whether there is a server name; nDPI writes `i` only if the name
///   is an address.
/// - The last two characters of the first part are the first and the last of the protocol name;
///   nDPI writes the first two (`ht` for `http/1.1`, `h3` for `h3-29`), or the first and a `0`.
/// - Without extensions, the last part consists of zeros; nDPI hashes the empty text.
pub fn corrected(ndpi: &str, ours: &str) -> String {
    let (Some((theirs_a, theirs_rest)), Some((ours_a, _))) = (ndpi.split_once('_'), ours.split_once('_')) else {
        return ndpi.to_owned();
    };
    let (mut a, ours_a) = (theirs_a.as_bytes().to_vec(), ours_a.as_bytes());
    if a.len() == ours_a.len() {
        if (a[3], ours_a[3]) == (b'd', b'i') {
            a[3] = b'i';
        }
        if a[8] == ours_a[8] {
            a[9] = ours_a[9];
        }
    }
    let rest = theirs_rest.replace("_e3b0c44298fc", "_000000000000");
    format!("{}_{rest}", String::from_utf8(a).unwrap())
}

/// Fingerprints with other differences, by file and value of nDPI, with the reason.
pub const EXCEPTIONS: [(&str, &str, &str); 5] = [
    ("capwap_data.pcapng", "t12d140800_c866b44c5a26_b39be8c56a14", "inside of CAPWAP, which netwatch does not read"),
    (
        "dtls.pcap",
        "dd2d270600_991e33d7eb74_10f9deb96590",
        "DTLS 1.3 is offered in supported_versions; nDPI reads the old field only",
    ),
    (
        "dtls_old_version.pcapng",
        "ds3d010000_692296a295db_e3b0c44298fc",
        "version 0x0100 of OpenSSL's old DTLS: unknown to JA4, `s3` for nDPI",
    ),
    (
        "quic-forcing-vn-with-data.pcapng",
        "q13d0307h3_55b375c5d22e_f0736a66fa6b",
        "the client sends two hellos; nDPI cannot read the first one, in a version that forces negotiation",
    ),
    (
        "tls_invalid_reads.pcap",
        "t12d200500_6e20beb92e8e_354730cf0bf0",
        "the length of ALPN is wrong: nDPI stops before that extension",
    ),
];
