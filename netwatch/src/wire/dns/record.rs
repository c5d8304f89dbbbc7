//! Resource records, with the data of the types that lead from a name to an address, or back.

use std::net::IpAddr;

use domain::base::iana::{Rtype, SvcParamKey};
use domain::base::message::Section;
use domain::base::{ParseRecordData, ParsedName, ParsedRecord};
use domain::rdata::svcb::SvcbRdata;
use domain::rdata::{A, Aaaa, Cname, Dname, Https, Mx, Ptr, Srv, Svcb};

use super::RecordType;
use crate::wire::tls::EchConfig;
use crate::wire::{Alpn, ByteReader, Name};

type WireName<'a> = ParsedName<&'a [u8]>;

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRecord {
    /// The name that the record belongs to.
    pub owner: Name,
    /// Its type.
    pub kind: RecordType,
    /// Its data.
    pub data: RecordData,
    /// Time to live, seconds.
    pub ttl: u32,
}

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    /// A and AAAA.
    Address(IpAddr),
    /// CNAME and DNAME: the canonical name.
    Alias(Name),
    /// PTR: the name of the address that the owner encodes.
    Pointer(Name),
    /// SRV and MX: the host that provides the service.
    Server(Name),
    /// HTTPS and SVCB.
    ServiceBinding(Box<ServiceBinding>),
    /// Of another type, or not readable.
    Other,
}

/// A service binding (RFC 9460): host, protocols and addresses of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceBinding {
    /// 0 for an alias, which has only a target.
    pub priority: u16,
    /// The host; `None` if it is the owner.
    pub target: Option<Name>,
    /// Protocols that are offered.
    pub alpn: Vec<Alpn>,
    /// Addresses of the host, as in A and AAAA records.
    pub hints: Vec<IpAddr>,
    /// The port, if it is not the default.
    pub port: Option<u16>,
    /// Keys for encrypted ClientHellos, with the server name that is sent instead of the true one.
    pub ech: Vec<EchConfig>,
}

/// Records of the authority section belong to name servers, and contain no address that the target
/// contacts.
pub(super) fn is_wanted(section: Section) -> bool {
    section != Section::Authority
}

pub(super) fn name(name: WireName) -> Name {
    Name::from_labels(name.iter().map(|label| label.as_slice()).filter(|label| !label.is_empty()))
}

impl ResourceRecord {
    pub(super) fn read(record: &ParsedRecord<[u8]>) -> Self {
        Self {
            owner: name(record.owner()),
            kind: RecordType(record.rtype().to_int()),
            data: data(record).unwrap_or(RecordData::Other),
            ttl: record.ttl().as_secs(),
        }
    }
}

/// The data, if its type is one of [`RecordData`] and it can be read.
fn data<'a>(record: &'a ParsedRecord<'a, [u8]>) -> Option<RecordData> {
    Some(match record.rtype() {
        Rtype::A => RecordData::Address(IpAddr::V4(read::<A>(record)?.addr())),
        Rtype::AAAA => RecordData::Address(IpAddr::V6(read::<Aaaa>(record)?.addr())),
        Rtype::CNAME => RecordData::Alias(name(read::<Cname<WireName>>(record)?.into_cname())),
        Rtype::DNAME => RecordData::Alias(name(read::<Dname<WireName>>(record)?.into_dname())),
        Rtype::PTR => RecordData::Pointer(name(read::<Ptr<WireName>>(record)?.into_ptrdname())),
        Rtype::SRV => RecordData::Server(name(*read::<Srv<WireName>>(record)?.target())),
        Rtype::MX => RecordData::Server(name(*read::<Mx<WireName>>(record)?.exchange())),
        Rtype::HTTPS => RecordData::ServiceBinding(service(&read::<Https<&[u8], WireName>>(record)?)),
        Rtype::SVCB => RecordData::ServiceBinding(service(&read::<Svcb<&[u8], WireName>>(record)?)),
        _ => return None,
    })
}

fn read<'a, D: ParseRecordData<'a, [u8]>>(record: &'a ParsedRecord<'a, [u8]>) -> Option<D> {
    record.to_record::<D>().ok().flatten().map(domain::base::Record::into_data)
}

fn service<V>(data: &SvcbRdata<V, &[u8], WireName>) -> Box<ServiceBinding> {
    let target = (!data.target().is_root()).then(|| name(*data.target()));
    let mut service = ServiceBinding { priority: data.priority(), target, ..ServiceBinding::default() };
    data.params().iter_raw().for_each(|param| service.read(param.key(), param.value()));
    Box::new(service)
}

impl ServiceBinding {
    fn read(&mut self, key: SvcParamKey, value: &[u8]) {
        match key {
            SvcParamKey::ALPN => self.alpn = Alpn::list(value),
            SvcParamKey::PORT => self.port = ByteReader::new(value).u16(),
            SvcParamKey::IPV4HINT => {
                self.hints.extend(value.as_chunks::<4>().0.iter().map(|octets| IpAddr::from(*octets)))
            }
            SvcParamKey::IPV6HINT => {
                self.hints.extend(value.as_chunks::<16>().0.iter().map(|octets| IpAddr::from(*octets)))
            }
            SvcParamKey::ECH => self.ech = EchConfig::list(value),
            _ => {}
        }
    }
}
