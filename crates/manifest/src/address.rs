//! Ranges of addresses, as the kinds write them.

use ipnet::IpNet;

use crate::fields::{Place, Reader};

/// Reads a range. A bare address is a range of one where the kind's older
/// versions had it so.
pub(crate) fn range(reader: &mut Reader<'_>, place: &Place<'_>, bare: bool) -> Option<IpNet> {
    let text = reader.string(place)?;
    let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if let Ok(net) = text.parse::<IpNet>() {
        if net != net.trunc() {
            reader.warn(
                place,
                format!("`{shown}` has bits behind its prefix: `{}` is meant", net.trunc()),
            );
        }
        return Some(net.trunc());
    }
    match (text.parse::<std::net::IpAddr>(), text.strip_prefix("cidr:")) {
        (Ok(address), _) if bare => {
            let net = IpNet::from(address);
            reader.warn(place, format!("has no prefix length: `{net}` is meant"));
            Some(net)
        }
        (Ok(address), _) => {
            let fix = format!("write {}", IpNet::from(address));
            reader.refuse(place, format!("`{shown}` has no prefix length"), Some(fix));
            None
        }
        (Err(_), Some(rest)) => {
            let fix = format!("a space is missing: write `cidr: {rest}`");
            reader.refuse(place, format!("`{shown}` is a text, not a mapping"), Some(fix));
            None
        }
        (Err(_), None) => {
            let fix = "write an address and a prefix length, as 10.0.0.0/8".to_owned();
            reader.refuse(place, format!("`{shown}` is no range of addresses"), Some(fix));
            None
        }
    }
}

/// Reads parts of a range that are not meant; they must lie inside it.
pub(crate) fn exceptions(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    whole: Option<IpNet>,
    bare: bool,
) -> Option<Vec<IpNet>> {
    let items = reader.list(place)?;
    let read: Vec<Option<IpNet>> = items
        .iter()
        .map(|item| {
            let net = range(reader, item, bare)?;
            match whole {
                Some(whole) if !whole.contains(&net) => {
                    reader.refuse(item, format!("`{net}` is not inside `{whole}`"), None);
                    None
                }
                _ => Some(net),
            }
        })
        .collect();
    read.into_iter().collect()
}
