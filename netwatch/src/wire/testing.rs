//! Builders of messages for the tests of this module and of [`crate::name`].

/// Bytes from hexadecimal digits; white space is ignored.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// Bytes after a length of one byte.
pub fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// Bytes after a length of two bytes.
pub fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Builds a ClientHello.
pub struct HelloBuilder {
    pub version: u16,
    pub ciphers: Vec<u16>,
    pub extensions: Vec<(u16, Vec<u8>)>,
    /// Only DTLS has one.
    pub cookie: Option<Vec<u8>>,
}

impl Default for HelloBuilder {
    fn default() -> Self {
        Self { version: 0x0303, ciphers: vec![0x1301, 0xc02f], extensions: Vec::new(), cookie: None }
    }
}

impl HelloBuilder {
    /// A hello with a server name.
    pub fn named(name: &str) -> Self {
        Self::default().server_name(name)
    }

    pub fn server_name(self, name: &str) -> Self {
        let entry = [vec![0], vector16(name.as_bytes())].concat();
        self.extension(0, vector16(&entry))
    }

    pub fn alpn(self, names: &[&str]) -> Self {
        let list: Vec<u8> = names.iter().flat_map(|name| vector8(name.as_bytes())).collect();
        self.extension(16, vector16(&list))
    }

    pub fn numbers(self, kind: u16, numbers: &[u16]) -> Self {
        self.extension(kind, vector16(&bytes_of(numbers)))
    }

    pub fn extension(mut self, kind: u16, body: Vec<u8>) -> Self {
        self.extensions.push((kind, body));
        self
    }

    /// The message without the handshake header.
    pub fn body(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [kind.to_be_bytes().to_vec(), vector16(body)].concat())
            .collect();
        [
            self.version.to_be_bytes().to_vec(),
            vec![7; 32],
            vector8(&[9; 32]),
            self.cookie.as_deref().map(vector8).unwrap_or_default(),
            vector16(&bytes_of(&self.ciphers)),
            vector8(&[0]),
            vector16(&extensions),
        ]
        .concat()
    }

    /// The message with the handshake header.
    pub fn message(&self) -> Vec<u8> {
        let body = self.body();
        let [_, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[..], &body].concat()
    }

    /// The message in records of at most `size` bytes.
    pub fn records(&self, size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| [vec![22, 3, 1], vector16(piece)].concat();
        self.message().chunks(size).flat_map(record).collect()
    }
}

fn bytes_of(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Builds a DNS message.
pub struct DnsBuilder {
    bytes: Vec<u8>,
}

impl DnsBuilder {
    pub fn query(id: u16, name: &str, kind: u16) -> Self {
        Self::new(id, 0x0100).question(name, kind)
    }

    pub fn response(id: u16, rcode: u16, name: &str, kind: u16) -> Self {
        Self::new(id, 0x8180 | rcode).question(name, kind)
    }

    pub fn new(id: u16, flags: u16) -> Self {
        Self { bytes: [id.to_be_bytes(), flags.to_be_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat() }
    }

    pub fn question(mut self, name: &str, kind: u16) -> Self {
        self.count(4);
        self.bytes.extend(dns_name(name));
        self.bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
        self
    }

    pub fn answer(self, name: &str, kind: u16, data: &[u8]) -> Self {
        self.record(6, name, kind, data)
    }

    pub fn additional(self, name: &str, kind: u16, data: &[u8]) -> Self {
        self.record(10, name, kind, data)
    }

    fn record(mut self, count_at: usize, name: &str, kind: u16, data: &[u8]) -> Self {
        self.count(count_at);
        self.bytes.extend(dns_name(name));
        self.bytes.extend([kind.to_be_bytes(), [0, 1], [0, 0], [0, 60]].concat());
        self.bytes.extend(vector16(data));
        self
    }

    fn count(&mut self, at: usize) {
        self.bytes[at + 1] += 1;
    }

    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// With its length in front, as in TCP.
    pub fn framed(self) -> Vec<u8> {
        vector16(&self.bytes)
    }
}

/// A DNS name without compression.
pub fn dns_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels.flat_map(|label| vector8(label.as_bytes())).collect();
    bytes.push(0);
    bytes
}
