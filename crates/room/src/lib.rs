//! The one writer of each room, and everybody's readers.
