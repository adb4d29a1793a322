//! One interface of one container: what every command but VERSION, STATUS and GC
//! is about, and the names that follow from it.

use sha2::{Digest, Sha256};

/// Longest name of an interface (`IFNAMSIZ` without the final zero).
const LONGEST_INTERFACE: usize = 15;

/// A container and the name of the interface inside it.
///
/// Everything on the node that belongs to it is named after the digest of both,
/// so that a command needs no memory of an earlier one to find it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Attachment {
    container_id: String,
    interface: String,
}

/// Why a pair of container and interface is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AttachmentError {
    /// Not what the specification lets a container be called.
    #[error(
        "container id `{0}` is not valid: a letter or digit, then letters, digits, `_`, `.`, `-`"
    )]
    ContainerId(String),
    /// Not what Linux lets an interface be called.
    #[error(
        "interface name `{0}` is not valid: 1 to 15 characters, no `/`, `:` or space, \
         not `.`, `..` or `lo`"
    )]
    Interface(String),
}

impl Attachment {
    /// The attachment, if both names are legal.
    pub fn new(container_id: &str, interface: &str) -> Result<Self, AttachmentError> {
        if !is_container_id(container_id) {
            return Err(AttachmentError::ContainerId(container_id.to_owned()));
        }
        if !is_interface(interface) {
            return Err(AttachmentError::Interface(interface.to_owned()));
        }
        Ok(Self { container_id: container_id.to_owned(), interface: interface.to_owned() })
    }

    /// The runtime's id of the container.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Name of the interface inside the pod.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Name of the interface on the node: `sg` and ten hexadecimal digits.
    pub fn host_interface(&self) -> String {
        let digits: String = self.digest()[..5].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sg{digits}")
    }

    /// MAC of the interface inside the pod.
    ///
    /// Given at creation rather than left to the kernel: a MAC that somebody set
    /// is one that udev leaves alone.
    pub fn pod_mac(&self) -> [u8; 6] {
        self.mac(5)
    }

    /// MAC of the interface on the node.
    pub fn host_mac(&self) -> [u8; 6] {
        self.mac(11)
    }

    /// Six bytes of the digest as a locally administered unicast address
    /// (IEEE 802-2014 section 8.4).
    fn mac(&self, from: usize) -> [u8; 6] {
        let digest = self.digest();
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[from..from + 6]);
        mac[0] = (mac[0] & 0xfc) | 0x02;
        mac
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(format!("{}/{}", self.container_id, self.interface)).into()
    }
}

/// CNI specification, "Parameters": `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
pub(crate) fn is_container_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The kernel's `dev_valid_name`, and not the loopback.
fn is_interface(text: &str) -> bool {
    (1..=LONGEST_INTERFACE).contains(&text.len())
        && !matches!(text, "." | ".." | "lo")
        && !text.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str, interface: &str) -> Attachment {
        Attachment::new(container_id, interface).unwrap()
    }

    #[track_caller]
    fn check_refused(container_id: &str, interface: &str) {
        assert!(Attachment::new(container_id, interface).is_err(), "{container_id} {interface}");
    }

    #[test]
    fn the_host_interface_is_named_after_the_digest_of_both_names() {
        // printf abc/eth0 | sha256sum
        assert_eq!(attachment("abc", "eth0").host_interface(), "sg538f587a23");
        assert_ne!(
            attachment("abc", "eth0").host_interface(),
            attachment("abc", "eth1").host_interface()
        );
    }

    #[test]
    fn macs_are_local_unicast_and_differ_between_the_ends() {
        let attachment = attachment("abc", "eth0");
        for mac in [attachment.pod_mac(), attachment.host_mac()] {
            assert_eq!(mac[0] & 0x03, 0x02);
        }
        assert_ne!(attachment.pod_mac(), attachment.host_mac());
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        check_refused("../a", "eth0");
        check_refused("", "eth0");
        check_refused("a/b", "eth0");
        check_refused("a", "..");
        check_refused("a", "a/b");
        check_refused("a", "");
        check_refused("a", "lo");
        check_refused("a", "sixteen_letters_");
    }
}
