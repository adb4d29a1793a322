//! What another version's types look like, read from the BTF that its maps carry,
//! and how a value of one layout becomes one of another: field by field, by name.
//!
//! Knows no type of crate `abi`: what it is asked about it finds by its C name.

use std::io::Write;
use std::os::fd::AsRawFd;

use libbpf_rs::btf::types::{Array, Enum, Enum64, Int, MemberAttr, Struct};
use libbpf_rs::btf::{Btf, BtfType, HasSize};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The types of one version.
#[derive(Debug)]
pub(crate) struct Types(Btf<'static>);

/// A field that is not made of others.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Leaf {
    /// `before.identity`, `places[3].id`.
    path: String,
    offset: usize,
    size: usize,
    /// Whether it is a number, or how many of what.
    kind: String,
}

impl Leaf {
    fn is_padding(&self) -> bool {
        self.path.rsplit('.').next().is_some_and(|name| name.starts_with("pad"))
    }
}

/// Where the fields of a type are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    size: usize,
    leaves: Vec<Leaf>,
}

impl Types {
    /// Those that a map was made with, by the number that the kernel gave its BTF.
    pub(crate) fn of_kernel(btf_id: u32) -> Result<Self, libbpf_rs::Error> {
        // SAFETY: a number in; null, or a pointer that is ours to free, out.
        let btf = unsafe { libbpf_sys::btf__load_from_kernel_by_id(btf_id) };
        if btf.is_null() {
            return Err(std::io::Error::last_os_error().into());
        }
        let mut size = 0;
        // SAFETY: `btf` is valid; the result points to `size` bytes that live as long
        // as it does, and are copied before it is freed. There is no safe call that
        // takes the number of a BTF instead of a program's.
        let raw = unsafe {
            let bytes = libbpf_sys::btf__raw_data(btf, &mut size).cast::<u8>();
            let copy = if bytes.is_null() {
                Vec::new()
            } else {
                std::slice::from_raw_parts(bytes, size as usize).to_vec()
            };
            libbpf_sys::btf__free(btf);
            copy
        };
        // libbpf-rs reads BTF from files only.
        let file = memfd_create("btf", MFdFlags::MFD_CLOEXEC).map_err(std::io::Error::from)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&raw)?;
        Btf::from_path(format!("/proc/self/fd/{}", file.as_raw_fd())).map(Self)
    }

    /// Those of an object file.
    pub(crate) fn of_object(object: &'static [u8]) -> Result<Option<Self>, libbpf_rs::Error> {
        Ok(Btf::from_raw("signet", object)?.map(Self))
    }

    /// The struct of this name; `None`: there is none, or it holds what has no
    /// layout of its own.
    pub(crate) fn layout(&self, name: &str) -> Option<Layout> {
        let found: Struct<'_> = self.0.type_by_name(name)?;
        let mut leaves = Vec::new();
        walk(&self.0, *found, String::new(), 0, &mut leaves)?;
        Some(Layout { size: found.size(), leaves })
    }
}

/// Takes in the fields of a type at an offset in bytes.
fn walk(
    btf: &Btf<'_>,
    ty: BtfType<'_>,
    path: String,
    offset: usize,
    leaves: &mut Vec<Leaf>,
) -> Option<()> {
    let ty = ty.skip_mods_and_typedefs();
    let mut leaf = |size, kind| leaves.push(Leaf { path: path.clone(), offset, size, kind });
    if let Some(size) = size_of_number(ty) {
        leaf(size, "number".to_owned());
        return Some(());
    }
    if let Ok(array) = Array::try_from(ty) {
        let element = array.contained_type().skip_mods_and_typedefs();
        if let Some(size) = size_of_number(element) {
            leaf(size * array.capacity(), format!("{} x {size}", array.capacity()));
            return Some(());
        }
        let size = Struct::try_from(element).ok()?.size();
        return (0..array.capacity()).try_for_each(|index| {
            walk(btf, element, format!("{path}[{index}]"), offset + index * size, leaves)
        });
    }
    let found = Struct::try_from(ty).ok()?;
    if found.is_empty() {
        // The kernel's own, as a timer is.
        leaf(found.size(), format!("{:?}", ty.name()));
    }
    (0..found.len()).try_for_each(|index| {
        let member = found.get(index)?;
        let MemberAttr::Normal { offset: bits } = member.attr else { return None };
        let name = member.name?.to_string_lossy();
        let inner = if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") };
        walk(btf, btf.type_by_id(member.ty)?, inner, offset + bits as usize / 8, leaves)
    })
}

fn size_of_number(ty: BtfType<'_>) -> Option<usize> {
    let int = Int::try_from(ty).map(|it| it.size());
    let small = Enum::try_from(ty).map(|it| it.size());
    let large = Enum64::try_from(ty).map(|it| it.size());
    int.or(small).or(large).ok()
}

impl Layout {
    /// The number in the field of this name, in bytes of the type.
    pub(crate) fn number(&self, field: &str, bytes: &[u8]) -> Option<u32> {
        let leaf = self.leaves.iter().find(|leaf| leaf.path == field)?;
        let bytes = bytes.get(leaf.offset..leaf.offset + leaf.size)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }
}

/// How values of one layout become values of another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conversion {
    /// From where, to where, how many bytes.
    copies: Vec<(usize, usize, usize)>,
    /// What the new layout has no place for: where, and how many bytes.
    dropped: Vec<(usize, usize)>,
    from: usize,
    to: usize,
    fields: Vec<String>,
    missing: Vec<String>,
}

impl Conversion {
    /// Fields of the same name and kind are the same.
    pub(crate) fn between(old: &Layout, new: &Layout) -> Self {
        let same = |one: &Leaf, other: &Leaf| {
            one.path == other.path && one.size == other.size && one.kind == other.kind
        };
        let meant = |layout: &Layout| -> Vec<Leaf> {
            layout.leaves.iter().filter(|leaf| !leaf.is_padding()).cloned().collect()
        };
        let (old_leaves, new_leaves) = (meant(old), meant(new));
        let mut conversion = Self {
            copies: vec![],
            dropped: vec![],
            from: old.size,
            to: new.size,
            fields: vec![],
            missing: vec![],
        };
        for leaf in &new_leaves {
            match old_leaves.iter().find(|other| same(other, leaf)) {
                Some(other) => {
                    conversion.copies.push((other.offset, leaf.offset, leaf.size));
                    conversion.fields.push(leaf.path.clone());
                }
                None => conversion.missing.push(leaf.path.clone()),
            }
        }
        let gone = old_leaves.iter().filter(|leaf| !new_leaves.iter().any(|new| same(leaf, new)));
        conversion.dropped = gone.map(|leaf| (leaf.offset, leaf.size)).collect();
        conversion
    }

    /// Fields that the old layout does not have: they become zero.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Whether a field is carried over.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|known| known == field)
    }

    /// Whether the value says something that the new layout cannot say.
    pub(crate) fn loses(&self, value: &[u8]) -> bool {
        let mut dropped = self.dropped.iter().filter_map(|(at, size)| value.get(*at..at + size));
        dropped.any(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// The value in the new layout; `None`: it is none of the old one.
    pub(crate) fn apply(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.len() != self.from {
            return None;
        }
        let mut converted = vec![0; self.to];
        for (from, to, size) in &self.copies {
            converted.get_mut(*to..to + size)?.copy_from_slice(value.get(*from..from + size)?);
        }
        Some(converted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, leaves: &[(&str, usize, usize)]) -> Layout {
        let leaf = |(path, offset, size): &(&str, usize, usize)| Leaf {
            path: (*path).to_owned(),
            offset: *offset,
            size: *size,
            kind: "number".to_owned(),
        };
        Layout { size, leaves: leaves.iter().map(leaf).collect() }
    }

    #[test]
    fn fields_move_to_their_places_and_new_ones_are_zero() {
        let old = layout(6, &[("id", 0, 4), ("flags", 4, 1), ("pad", 5, 1)]);
        let new = layout(8, &[("flags", 0, 1), ("pad", 1, 1), ("zone", 2, 2), ("id", 4, 4)]);
        let conversion = Conversion::between(&old, &new);
        assert_eq!(conversion.missing(), ["zone"]);
        assert!(conversion.has("id") && !conversion.has("zone"));
        assert_eq!(conversion.apply(&[1, 2, 3, 4, 5, 9]), Some(vec![5, 0, 0, 0, 1, 2, 3, 4]));
        assert_eq!(conversion.apply(&[1, 2, 3]), None);
        assert!(!conversion.loses(&[1, 2, 3, 4, 5, 9]), "padding says nothing");
    }

    #[test]
    fn what_has_no_place_is_noticed_unless_it_is_zero() {
        let old = layout(6, &[("id", 0, 4), ("zone", 4, 2)]);
        let new = layout(4, &[("id", 0, 4)]);
        let conversion = Conversion::between(&old, &new);
        assert!(conversion.loses(&[1, 2, 3, 4, 0, 7]));
        assert!(!conversion.loses(&[1, 2, 3, 4, 0, 0]));
    }

    #[test]
    fn a_field_of_another_size_is_another_field() {
        let (old, new) = (layout(4, &[("id", 0, 4)]), layout(8, &[("id", 0, 8)]));
        assert_eq!(Conversion::between(&old, &new).missing(), ["id"]);
    }

    #[test]
    fn the_programs_own_types_have_a_layout() {
        let types = Types::of_object(crate::object::object_bytes()).unwrap().unwrap();
        let connection = types.layout("sg_connection").unwrap();
        assert_eq!(connection.size, size_of::<abi::Connection>());
        let mut value = vec![0; connection.size];
        let at = std::mem::offset_of!(abi::Connection, epoch);
        value[at] = 7;
        assert_eq!(connection.number("epoch", &value), Some(7));
        for kept in ["sg_record", "fragment_memory", "socket_services", "sweeper", "sg_usage"] {
            assert!(types.layout(kept).is_some(), "{kept}");
        }
    }
}
