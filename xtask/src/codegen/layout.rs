//! The shared types as BTF describes them, checked to have a faithful Rust form.
//!
//! Knows BTF and C layout, not Rust's syntax and not the headers' text.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use libbpf_rs::btf::types::{
    Array, Enum as BtfEnum, Int, IntEncoding, MemberAttr, Struct as BtfStruct, Var,
};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, HasSize};

/// Variables of the anchor start with this; what they are made of is shared.
const ANCHOR: &str = "abi_";

/// All shared types by their C name.
#[derive(Debug, Default)]
pub struct Types {
    /// Structs, with those that only other structs use.
    pub structs: BTreeMap<String, Struct>,
    /// Enums that the anchor names.
    pub enums: BTreeMap<String, Vec<(String, u32)>>,
}

/// A struct without holes.
#[derive(Debug)]
pub struct Struct {
    /// In bytes.
    pub size: usize,
    /// In memory order.
    pub fields: Vec<Field>,
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// As in C.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
    /// Declared `__be16`, `__be32` or `__be64`.
    pub network_order: bool,
}

/// What a field holds.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A fixed-width integer.
    Integer { bits: u8, signed: bool },
    /// A fixed number of equal elements.
    Array(Box<Shape>, usize),
    /// Another shared struct, by its C name.
    Struct(String),
}

/// Why a type cannot be shared. Names the C type, so that the header can be mended.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The anchor refers to nothing.
    #[error("the anchor has no variable whose name starts with `{ANCHOR}`")]
    Empty,
    /// A hole that the compiler put there.
    #[error("`{owner}` has {bytes} bytes of implicit padding {place}: add an explicit `pad`")]
    Padding { owner: String, bytes: usize, place: String },
    /// A field whose layout C leaves open or Rust cannot name.
    #[error("`{place}` is a {what}: shared types hold fixed-width integers, arrays and structs")]
    Unsupported { place: String, what: &'static str },
    /// A type or field that Rust could not refer to.
    #[error("`{place}` has a type or a field with no name")]
    Anonymous { place: String },
    /// Constants are unsigned.
    #[error("`{place}` is negative or wider than 32 bits: shared enums are u32")]
    Value { place: String },
}

/// Every type that a variable of the anchor is made of.
pub fn read(btf: &Btf<'_>) -> Result<Types, Refusal> {
    let mut reader = Reader { btf, types: Types::default() };
    for variable in btf.type_by_kind::<Var<'_>>() {
        let Some(name) = variable.name().and_then(OsStr::to_str) else { continue };
        let Some(target) = variable.next_type() else { continue };
        if name.starts_with(ANCHOR) {
            reader.shape(name, target)?;
        }
    }
    if reader.types.structs.is_empty() && reader.types.enums.is_empty() {
        return Err(Refusal::Empty);
    }
    Ok(reader.types)
}

/// Follows types from one to the next and collects those that need a declaration.
struct Reader<'a> {
    btf: &'a Btf<'a>,
    types: Types,
}

impl<'a> Reader<'a> {
    /// How `target` looks in `place`, a variable or a field.
    fn shape(&mut self, place: &str, target: BtfType<'a>) -> Result<Shape, Refusal> {
        let target = target.skip_mods_and_typedefs();
        let unsupported = |what| Refusal::Unsupported { place: place.to_owned(), what };
        let not_read = |_| unsupported("type that libbpf cannot read");
        match target.kind() {
            BtfKind::Int => Int::try_from(target).map_err(not_read).and_then(|int| {
                let signed = matches!(int.encoding, IntEncoding::Signed);
                match int.bits {
                    // Two of C's values mean `bool`, all 256 arrive; and there is no u128 in C.
                    _ if matches!(int.encoding, IntEncoding::Bool) => Err(unsupported("bool")),
                    8 | 16 | 32 | 64 => Ok(Shape::Integer { bits: int.bits, signed }),
                    _ => Err(unsupported("integer of an odd width")),
                }
            }),
            BtfKind::Array => {
                let array = Array::try_from(target).map_err(not_read)?;
                let element = self.shape(place, array.contained_type())?;
                Ok(Shape::Array(Box::new(element), array.capacity()))
            }
            BtfKind::Struct => {
                let composite = BtfStruct::try_from(target).map_err(not_read)?;
                self.structure(place, &composite).map(Shape::Struct)
            }
            BtfKind::Enum => {
                let values = BtfEnum::try_from(target).map_err(not_read)?;
                self.enumeration(place, &values)?;
                Ok(Shape::Integer { bits: 32, signed: false })
            }
            BtfKind::Enum64 => Err(Refusal::Value { place: place.to_owned() }),
            BtfKind::Union => Err(unsupported("union")),
            BtfKind::Ptr => Err(unsupported("pointer")),
            BtfKind::Float => Err(unsupported("floating-point number")),
            _ => Err(unsupported("type without a size")),
        }
    }

    /// Adds a struct and what it holds; gives its name.
    fn structure(&mut self, place: &str, composite: &BtfStruct<'a>) -> Result<String, Refusal> {
        let owner = name_of(place, composite.name())?;
        if self.types.structs.contains_key(&owner) {
            return Ok(owner);
        }
        let padding = |bytes, place| Refusal::Padding { owner: owner.clone(), bytes, place };
        let mut fields = Vec::new();
        let mut end = 0;
        for index in 0..composite.len() {
            let Some(member) = composite.get(index) else { break };
            let name = name_of(&owner, member.name)?;
            let place = format!("{owner}.{name}");
            let MemberAttr::Normal { offset } = member.attr else {
                return Err(Refusal::Unsupported { place, what: "bit-field" });
            };
            let Some(declared) = self.btf.type_by_id::<BtfType<'a>>(member.ty) else {
                return Err(Refusal::Unsupported { place, what: "type that BTF does not hold" });
            };
            let start = offset as usize / 8;
            if start > end {
                return Err(padding(start - end, format!("before `{name}`")));
            }
            let shape = self.shape(&place, declared)?;
            end = start + self.size(&shape);
            fields.push(Field { name, shape, network_order: is_network_order(declared) });
        }
        let size = composite.size();
        if size > end {
            return Err(padding(size - end, "at its end".to_owned()));
        }
        self.types.structs.insert(owner.clone(), Struct { size, fields });
        Ok(owner)
    }

    fn enumeration(&mut self, place: &str, values: &BtfEnum<'a>) -> Result<(), Refusal> {
        let owner = name_of(place, values.name())?;
        let mut constants = Vec::new();
        for index in 0..values.len() {
            let Some(value) = values.get(index) else { break };
            let name = name_of(&owner, value.name)?;
            let number = u32::try_from(value.value)
                .map_err(|_| Refusal::Value { place: format!("{owner}.{name}") })?;
            constants.push((name, number));
        }
        self.types.enums.insert(owner, constants);
        Ok(())
    }

    fn size(&self, shape: &Shape) -> usize {
        match shape {
            Shape::Integer { bits, .. } => usize::from(*bits) / 8,
            Shape::Array(element, length) => self.size(element) * length,
            Shape::Struct(name) => self.types.structs.get(name).map_or(0, |known| known.size),
        }
    }
}

fn name_of(place: &str, name: Option<&OsStr>) -> Result<String, Refusal> {
    let name = name.and_then(OsStr::to_str).map(str::to_owned);
    name.ok_or_else(|| Refusal::Anonymous { place: place.to_owned() })
}

/// Whether the type, or the element of the array, is declared as one of `__be16`, `__be32`, `__be64`.
fn is_network_order(declared: BtfType<'_>) -> bool {
    let mut next = Some(declared);
    while let Some(step) = next {
        if step.name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("__be")) {
            return true;
        }
        next = match Array::try_from(step) {
            Ok(array) => Some(array.contained_type()),
            Err(step) => step.next_type(),
        };
    }
    false
}
