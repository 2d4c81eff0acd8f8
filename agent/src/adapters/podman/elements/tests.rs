use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const KEEP: &[Keep] = &[
    Keep::Whole("Id"),
    Keep::Whole("Names"),
    Keep::Whole("Pid"),
    Keep::Keys("Labels", &["buddo.a", "buddo.b"]),
];

/// Reads `text` in pieces of these sizes, over and over.
fn read(text: &[u8], sizes: &[usize]) -> Result<Vec<Element>, Malformed> {
    let mut reader = Reader::new(KEEP);
    let mut elements = Vec::new();
    let mut rest = text;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        let (piece, after) = rest.split_at(size);
        reader.feed::<Malformed>(piece, &mut |element| {
            elements.push(element);
            Ok(())
        })?;
        rest = after;
    }
    reader.finish()?;
    Ok(elements)
}

fn values(elements: &[Element]) -> Vec<Value> {
    elements.iter().map(|element| element.decode().unwrap().unwrap()).collect()
}

/// What the reader must keep of `object`, computed from a parsed value.
fn expected(object: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for field in ["Id", "Names", "Pid"] {
        kept.extend(object.get(field).map(|value| (field.to_owned(), value.clone())));
    }
    if let Some(Value::Object(labels)) = object.get("Labels") {
        let ours = labels.iter().filter(|(key, _)| matches!(&***key, "buddo.a" | "buddo.b"));
        let ours: Map<String, Value> = ours.map(|(k, v)| (k.clone(), v.clone())).collect();
        kept.insert("Labels".to_owned(), Value::Object(ours));
    }
    Value::Object(kept)
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["(?s).{0,12}", r#"["\\{}\[\],: \n]{0,8}"#];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Halves: a parser may round others.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 2.0)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any_key(), inner, 0..4).prop_map(to_object),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Id".to_owned()),
        Just("Names".to_owned()),
        Just("Pid".to_owned()),
        Just("Labels".to_owned()),
        Just("buddo.a".to_owned()),
        Just("buddo.b".to_owned()),
        "(?s).{0,6}",
        r#"["\\{}\[\],:]{0,4}"#,
    ]
}

fn to_object(map: BTreeMap<String, Value>) -> Value {
    Value::Object(map.into_iter().collect())
}

fn any_object() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map(any_key(), any_value(), 0..4).prop_map(to_object);
    let labels = prop_oneof![3 => labels, 1 => any_value()];
    let others = proptest::collection::btree_map(any_key(), any_value(), 0..6);
    (others, proptest::option::of(labels)).prop_map(|(mut others, labels)| {
        others.extend(labels.map(|labels| ("Labels".to_owned(), labels)));
        to_object(others)
    })
}

proptest! {
    /// Whatever a list contains and wherever its chunks end, the same fields are kept.
    #[test]
    fn requested_fields_are_kept_for_any_list_and_chunking(
        list in proptest::collection::vec(any_object(), 0..5),
        sizes in proptest::collection::vec(1_usize..40, 1..5),
        pretty in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_vec_pretty(&list) } else { serde_json::to_vec(&list) };
        let text = text.unwrap();
        let elements = read(&text, &sizes).unwrap();
        let expected: Vec<Value> =
            list.iter().map(|object| expected(object.as_object().unwrap())).collect();
        prop_assert_eq!(values(&elements), expected);
        let bytes: u64 = elements.iter().map(|element| element.bytes).sum();
        prop_assert!(bytes <= text.len() as u64);
    }

    #[test]
    fn strings_are_filtered_by_prefix_for_any_chunking(
        names in proptest::collection::vec(
            prop_oneof!["a@(?s).{0,4}", r#"[a@"\\\[\]{},:]{0,6}"#], 0..8,
        ),
        size in 1_usize..40,
        pretty in any::<bool>(),
    ) {
        let object = json!({"Aa": names, "Names": names, "Zz": "a@"});
        let text = if pretty { format!("{object:#}") } else { object.to_string() };
        let kept: Vec<_> = names.iter().filter(|name| name.starts_with("a@")).collect();
        prop_assert_eq!(value_of_one(&text, size), json!({"Names": kept}));
    }

    /// Cut anywhere, a list is never taken for complete.
    #[test]
    fn a_truncated_list_is_an_error(
        list in proptest::collection::vec(any_object(), 0..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        let text = serde_json::to_vec(&list).unwrap();
        prop_assert!(read(&text[..cut.index(text.len())], &[7]).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        begin in prop_oneof![Just(""), Just("["), Just("[{"), Just(r#"[{"Labels":{"#)],
    ) {
        let mut text = begin.as_bytes().to_vec();
        text.extend(bytes);
        let _ = read(&text, &[3]);
    }
}

#[test]
fn every_split_of_a_list_reads_the_same() {
    let list = json!([
        {"Command": ["a\"]}"], "Id": "1", "Labels": {"x": "}\\\"", "buddo.a": "1"}, "Names": ["n"]},
        {"Id": "2", "Labels": null, "Pid": 7},
    ]);
    let text = list.to_string();
    let whole = values(&read(text.as_bytes(), &[text.len()]).unwrap());
    assert_eq!(whole[0], json!({"Id": "1", "Labels": {"buddo.a": "1"}, "Names": ["n"]}));
    assert_eq!(whole[1], json!({"Id": "2", "Pid": 7}));
    for at in 1..text.len() {
        assert_eq!(values(&read(text.as_bytes(), &[at, text.len()]).unwrap()), whole, "{at}");
    }
}

/// Reads one object in pieces of these sizes, and of its `Names` those that begin with `a@`.
fn read_one(text: &[u8], size: usize) -> Result<Option<Element>, Malformed> {
    const KEEP: &[Keep] =
        &[Keep::Whole("Id"), Keep::Strings("Names"), Keep::Keys("Config", &["User"])];
    let mut reader = Reader::one(KEEP, "a@".to_owned(), 4096);
    let mut found = None;
    for piece in text.chunks(size) {
        reader.feed::<Malformed>(piece, &mut |element| {
            found = Some(element);
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(found)
}

fn value_of_one(text: &str, size: usize) -> Value {
    read_one(text.as_bytes(), size).unwrap().unwrap().decode().unwrap().unwrap()
}

#[test]
fn a_single_object_is_read_with_its_strings_filtered_by_prefix() {
    let text = json!({
        "Config": {"Names": ["a@0"], "User": "u"},
        "Id": "1",
        "Names": ["b@1", "a@1", "a", "xa@1", "a@\"]2", {"Names": ["a@3"]}, 7, "a@"],
        "Other": ["a@4"],
        "Size": 9,
    });
    let text = text.to_string();
    let expected = json!({"Config": {"User": "u"}, "Id": "1", "Names": ["a@1", "a@\"]2", "a@"]});
    for size in 1..text.len() {
        assert_eq!(value_of_one(&text, size), expected, "{size}");
    }
    for none in [r#"{"Names":[]}"#, r#" { "Names" : [ "b" ] } "#] {
        assert_eq!(value_of_one(none, 3), json!({"Names": []}), "{none}");
    }
    assert_eq!(value_of_one(r#"{"Names":null,"Id":"1"}"#, 3), json!({"Id": "1"}));
    for text in ["", "null", "[]", "[{}]", "{", "{}{}", "{},", r#"{"Names":["#] {
        assert!(read_one(text.as_bytes(), 1).is_err(), "{text}");
    }
}

/// `fm_52`: neither other images' names nor a great many of its own crowd out what is read.
#[test]
fn fm_52_unrequested_and_excess_strings_are_left_out() {
    let others = vec![format!("b@{}", "x".repeat(90)); 10_000];
    let long = format!("a@{}", "x".repeat(MAX_STRING));
    let text = json!({"Id": "1", "Names": others}).to_string();
    assert_eq!(value_of_one(&text, 8_192), json!({"Id": "1", "Names": []}));
    let text = json!({"Id": "1", "Names": [long, "a@1"]}).to_string();
    assert_eq!(value_of_one(&text, 8_192), json!({"Id": "1", "Names": ["a@1"]}));
    let own = vec![format!("a@{}", "x".repeat(98)); 10_000];
    let text = json!({"Names": own, "Zid": "1"}).to_string();
    let keep = &[Keep::Strings("Names"), Keep::Whole("Zid")];
    let mut reader = Reader::one(keep, "a@".to_owned(), 1 << 20);
    let mut found = None;
    let fed: Result<(), Malformed> = reader.feed(text.as_bytes(), &mut |element| {
        found = Some(element);
        Ok(())
    });
    fed.unwrap();
    let value: Value = found.unwrap().decode().unwrap().unwrap();
    assert_eq!(value["Names"].as_array().unwrap().len(), MAX_STRINGS / 100);
    assert_eq!(value["Zid"], "1");
}

#[test]
fn an_empty_list_is_an_array_or_null() {
    for text in ["[]", " [ ]\n", "null", "null\n"] {
        assert!(read(text.as_bytes(), &[1]).unwrap().is_empty(), "{text}");
    }
    for text in ["", "nul", "nullx", "{}", "[1]", "[{}", "[{},]", "[{}]x", "[{} {}]", "[null]"] {
        assert!(read(text.as_bytes(), &[1]).is_err(), "{text}");
    }
    assert_eq!(read("[{\"a\":".repeat(100).as_bytes(), &[9]).unwrap_err(), Malformed::TooDeep);
}

/// `fm_52`: labels of megabytes cost no memory, and the requested fields are kept.
#[test]
fn fm_52_megabytes_of_labels_are_skipped_in_constant_memory() {
    let junk = "\\\"".repeat(4 << 20);
    let text = format!(
        r#"[{{"Id":"1","Labels":{{"a":"{junk}","buddo.a":"x"}},"Names":["n"]}},{{"Id":"2"}}]"#
    );
    let mut reader = Reader::new(KEEP);
    let mut elements = Vec::new();
    for piece in text.as_bytes().chunks(8 * 1024) {
        let fed: Result<(), Malformed> = reader.feed(piece, &mut |element| {
            elements.push(element);
            Ok(())
        });
        fed.unwrap();
        assert!(reader.kept.capacity() < 1024, "{}", reader.kept.capacity());
    }
    reader.finish().unwrap();
    assert_eq!(values(&elements)[0], json!({"Id":"1","Labels":{"buddo.a":"x"},"Names":["n"]}));
    assert!(elements[0].bytes > 8 << 20 && elements[1].bytes < 20);
}

/// Even the requested fields may be too large: then the object is known by its id, and the next one
/// is read.
#[test]
fn fm_52_an_oversized_object_keeps_its_id_and_the_next_one_is_read() {
    let long = "x".repeat(MAX_KEPT);
    let text = format!(r#"[{{"Id":"17af","Names":["{long}"],"Pid":1}},{{"Id":"2"}}]"#);
    let elements = read(text.as_bytes(), &[4096]).unwrap();
    assert!(elements[0].decode::<Value>().is_none());
    assert_eq!(elements[0].id().as_deref(), Some("17af"));
    assert_eq!(elements[1].decode::<Value>().unwrap().unwrap(), json!({"Id": "2"}));
}
