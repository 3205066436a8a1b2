//! A protobuf body, of the kind that its envelope says.

use freewheel_hub_schema::protobuf;

use crate::object;

/// It is refused, or a value that is written as something that reads as itself.
pub(crate) fn run(bytes: &[u8]) {
    let value = match protobuf::decode(bytes) {
        Ok(value) => value,
        Err(error) => return object::refused(&error, bytes),
    };
    match protobuf::encode(&value) {
        Ok(written) => match protobuf::decode(&written) {
            Ok(again) => assert_eq!(again, value, "what is written is read as another value"),
            Err(error) => panic!("{}: {value}", error.message),
        },
        Err(error) => panic!("{}: {value}", error.message),
    }
    if let Some(kind) = object::of_value(&value) {
        object::check(&kind, &value);
    }
}
