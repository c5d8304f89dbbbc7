//! Information elements, and templates made of them.

/// The enterprise of the reverse elements (RFC 5103).
const REVERSE: u32 = 29_305;
/// The enterprise of the elements that netwatch defines: the number for examples and documentation
/// (RFC 5612), because netwatch has no number.
const OWN: u32 = 32_473;
/// The length of a field that has its own length in each record (RFC 7011, section 7).
const VARIABLE: u16 = u16::MAX;
/// Bytes of the longest text in a record, so that its length fits into one byte.
const MAX_TEXT_BYTES: usize = 128;

/// A field of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TemplateField {
    id: u16,
    length: u16,
    enterprise: Option<u32>,
}

impl TemplateField {
    /// An element of the registry.
    pub(super) const fn of(id: u16, length: u16) -> Self {
        Self { id, length, enterprise: None }
    }

    /// The same element, about the packets of the other direction.
    pub(super) const fn reverse(id: u16, length: u16) -> Self {
        Self { id, length, enterprise: Some(REVERSE) }
    }

    /// An element of netwatch.
    pub(super) const fn own(id: u16, length: u16) -> Self {
        Self { id, length, enterprise: Some(OWN) }
    }

    /// A text of the registry.
    pub(super) const fn text(id: u16) -> Self {
        Self::of(id, VARIABLE)
    }

    /// A text of netwatch.
    pub(super) const fn own_text(id: u16) -> Self {
        Self::own(id, VARIABLE)
    }

    fn encode(self, out: &mut Vec<u8>) {
        let enterprise_bit = if self.enterprise.is_some() { 0x8000 } else { 0 };
        out.extend((self.id | enterprise_bit).to_be_bytes());
        out.extend(self.length.to_be_bytes());
        out.extend(self.enterprise.into_iter().flat_map(u32::to_be_bytes));
    }
}

/// Writes fields as a template record: `scope` of them are the scope of options.
pub(super) fn encode_template(
    id: u16,
    scope: Option<u16>,
    fields: impl ExactSizeIterator<Item = TemplateField>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(id.to_be_bytes());
    out.extend((fields.len() as u16).to_be_bytes());
    out.extend(scope.into_iter().flat_map(u16::to_be_bytes));
    fields.for_each(|field| field.encode(&mut out));
    out
}

/// Writes a text with its length.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}
