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

/// RFC 9001 appendix A.2: a protected Initial packet of version 1.
pub const QUIC_INITIAL: &str = "
    c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd
    449f63300099f3991c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c8eb7539ec4d4905fed1bee1fc8aafba1
    7c750e2c7ace01e6005f80fcb7df621230c83711b39343fa028cea7f7fb5ff89eac2308249a02252155e2347b63d58c5457afd84d05dfffd
    b20392844ae812154682e9cf012f9021a6f0be17ddd0c2084dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec
    4e15daf8500a6ef69ec4e3feb6b1d98e610ac8b7ec3faf6ad760b7bad1db4ba3485e8a94dc250ae3fdb41ed15fb6a8e5eba0fc3dd60bc8e3
    0c5c4287e53805db059ae0648db2f64264ed5e39be2e20d82df566da8dd5998ccabdae053060ae6c7b4378e846d29f37ed7b4ea9ec5d82e7
    961b7f25a9323851f681d582363aa5f89937f5a67258bf63ad6f1a0b1d96dbd4faddfcefc5266ba6611722395c906556be52afe3f565636a
    d1b17d508b73d8743eeb524be22b3dcbc2c7468d54119c7468449a13d8e3b95811a198f3491de3e7fe942b330407abf82a4ed7c1b311663a
    c69890f4157015853d91e923037c227a33cdd5ec281ca3f79c44546b9d90ca00f064c99e3dd97911d39fe9c5d0b23a229a234cb36186c481
    9e8b9c5927726632291d6a418211cc2962e20fe47feb3edf330f2c603a9d48c0fcb5699dbfe5896425c5bac4aee82e57a85aaf4e2513e4f0
    5796b07ba2ee47d80506f8d2c25e50fd14de71e6c418559302f939b0e1abd576f279c4b2e0feb85c1f28ff18f58891ffef132eef2fa09346
    aee33c28eb130ff28f5b766953334113211996d20011a198e3fc433f9f2541010ae17c1bf202580f6047472fb36857fe843b19f5984009dd
    c324044e847a4f4a0ab34f719595de37252d6235365e9b84392b061085349d73203a4a13e96f5432ec0fd4a1ee65accdd5e3904df54c1da5
    10b0ff20dcc0c77fcb2c0e0eb605cb0504db87632cf3d8b4dae6e705769d1de354270123cb11450efc60ac47683d7b8d0f811365565fd98c
    4c8eb936bcab8d069fc33bd801b03adea2e1fbc5aa463d08ca19896d2bf59a071b851e6c239052172f296bfb5e72404790a2181014f3b94a
    4e97d117b438130368cc39dbb2d198065ae3986547926cd2162f40a29f0c3c8745c0f50fba3852e566d44575c29d39a03f0cda721984b6f4
    40591f355e12d439ff150aab7613499dbd49adabc8676eef023b15b65bfc5ca06948109f23f350db82123535eb8a7433bdabcb909271a6ec
    bcb58b936a88cd4e8f2e6ff5800175f113253d8fa9ca8885c2f552e657dc603f252e1a8e308f76f0be79e2fb8f5d5fbbe2e30ecadd220723
    c8c0aea8078cdfcb3868263ff8f0940054da48781893a7e49ad5aff4af300cd804a6b6279ab3ff3afb64491c85194aab760d58a606654f9f
    4400e8b38591356fbf6425aca26dc85244259ff2b19c41b9f96f3ca9ec1dde434da7d2d392b905ddf3d1f9af93d1af5950bd493f5aa731b4
    056df31bd267b6b90a079831aaf579be0a39013137aac6d404f518cfd46840647e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c
    88d4a9a7f9474241e221af44860018ab0856972e194cd934";
