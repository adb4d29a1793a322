//! Questions that are answered from values; those from manifests are asked where manifests are read.
