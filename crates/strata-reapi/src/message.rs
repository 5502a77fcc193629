//! Protocol buffers without generated code: a message is its fields with their numbers, as the
//! `.proto` has them.
//!
//! `prost`'s own derive is not used, since it changes features of crates that RocksDB is compiled
//! with; bytes are [`bytes::Bytes`], so a blob in a request is not copied. Unknown fields are
//! skipped, as the format wants it.

/// Whether a field has the value that is not written.
#[doc(hidden)]
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares messages, how far they are seen first: `pub, Digest { hash: [string] = 1 }`. A field is
/// `name: [kind] = number`, where a kind is `string`, `bytes`, `bool`, `int32`,
/// `int64`, `uint32`, `uint64`, `strings`, `enums`, `pieces` (bytes, several times), or `one` or
/// `many` of a message.
#[macro_export]
macro_rules! messages {
    ($vis:vis, $(
        $(#[$doc:meta])*
        $name:ident { $($field:ident: [$($kind:tt)+] = $tag:literal),* $(,)? }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Default)]
            $vis struct $name { $($vis $field: $crate::messages!(@type $($kind)+)),* }

            impl prost::Message for $name {
                fn encode_raw(&self, buffer: &mut impl bytes::BufMut) {
                    // A message may have no fields.
                    let _ = &buffer;
                    $($crate::messages!(@encode buffer, &self.$field, $tag, $($kind)+);)*
                }

                fn merge_field(
                    &mut self,
                    tag: u32,
                    wire: prost::encoding::WireType,
                    buffer: &mut impl bytes::Buf,
                    context: prost::encoding::DecodeContext,
                ) -> Result<(), prost::DecodeError> {
                    match tag {
                        $($tag => $crate::messages!(
                            @merge wire, self.$field, buffer, context, $($kind)+
                        ),)*
                        _ => prost::encoding::skip_field(wire, tag, buffer, context),
                    }
                }

                fn encoded_len(&self) -> usize {
                    0 $(+ $crate::messages!(@length &self.$field, $tag, $($kind)+))*
                }

                fn clear(&mut self) {
                    *self = Self::default();
                }
            }
        )*
    };
    (@type string) => { String };
    (@type strings) => { Vec<String> };
    (@type bytes) => { bytes::Bytes };
    (@type pieces) => { Vec<bytes::Bytes> };
    (@type bool) => { bool };
    (@type int32) => { i32 };
    (@type int64) => { i64 };
    (@type uint32) => { u32 };
    (@type uint64) => { u64 };
    (@type enums) => { Vec<i32> };
    (@type one $message:ty) => { Option<$message> };
    (@type many $message:ty) => { Vec<$message> };

    (@encode $to:ident, $field:expr, $tag:literal, strings) => {
        prost::encoding::string::encode_repeated($tag, $field, $to)
    };
    (@encode $to:ident, $field:expr, $tag:literal, pieces) => {
        prost::encoding::bytes::encode_repeated($tag, $field, $to)
    };
    (@encode $to:ident, $field:expr, $tag:literal, enums) => {
        prost::encoding::int32::encode_packed($tag, $field, $to)
    };
    (@encode $to:ident, $field:expr, $tag:literal, one $message:ty) => {
        if let Some(message) = $field {
            prost::encoding::message::encode($tag, message, $to)
        }
    };
    (@encode $to:ident, $field:expr, $tag:literal, many $message:ty) => {
        prost::encoding::message::encode_repeated($tag, $field, $to)
    };
    (@encode $to:ident, $field:expr, $tag:literal, $kind:ident) => {
        if !$crate::message::is_default($field) {
            prost::encoding::$kind::encode($tag, $field, $to)
        }
    };

    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, strings) => {
        prost::encoding::string::merge_repeated($wire, &mut $field, $from, $context)
    };
    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, pieces) => {
        prost::encoding::bytes::merge_repeated($wire, &mut $field, $from, $context)
    };
    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, enums) => {
        prost::encoding::int32::merge_repeated($wire, &mut $field, $from, $context)
    };
    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, one $message:ty) => {
        prost::encoding::message::merge(
            $wire, $field.get_or_insert_with(Default::default), $from, $context,
        )
    };
    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, many $message:ty) => {
        prost::encoding::message::merge_repeated($wire, &mut $field, $from, $context)
    };
    (@merge $wire:ident, $field:expr, $from:ident, $context:ident, $kind:ident) => {
        prost::encoding::$kind::merge($wire, &mut $field, $from, $context)
    };

    (@length $field:expr, $tag:literal, strings) => {
        prost::encoding::string::encoded_len_repeated($tag, $field)
    };
    (@length $field:expr, $tag:literal, pieces) => {
        prost::encoding::bytes::encoded_len_repeated($tag, $field)
    };
    (@length $field:expr, $tag:literal, enums) => {
        prost::encoding::int32::encoded_len_packed($tag, $field)
    };
    (@length $field:expr, $tag:literal, one $message:ty) => {
        $field.as_ref().map_or(0, |message| prost::encoding::message::encoded_len($tag, message))
    };
    (@length $field:expr, $tag:literal, many $message:ty) => {
        prost::encoding::message::encoded_len_repeated($tag, $field)
    };
    (@length $field:expr, $tag:literal, $kind:ident) => {
        if !$crate::message::is_default($field) {
            prost::encoding::$kind::encoded_len($tag, $field)
        } else {
            0
        }
    };
}
