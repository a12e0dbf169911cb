//! The reader, fed whole, in pieces, and with what nobody should send.

use super::*;

const HEAD: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";
const LIMITS: Limits = Limits { bytes: 10_000, depth: 20, attributes: 10, elements: 100 };

/// Everything in `text` after the header of a stream; the error, if it ends so.
fn read(text: &str) -> (Vec<Parsed>, Option<XmlError>) {
    read_bytes(format!("{HEAD}{text}").as_bytes(), usize::MAX)
}

fn read_bytes(bytes: &[u8], piece: usize) -> (Vec<Parsed>, Option<XmlError>) {
    let mut reader = Reader::stream(LIMITS);
    let mut parsed = Vec::new();
    for piece in bytes.chunks(piece.min(bytes.len())) {
        reader.push(piece);
        loop {
            match reader.read() {
                Ok(Some(one)) => parsed.push(one),
                Ok(None) => break,
                Err(error) => return (parsed, Some(error)),
            }
        }
    }
    (parsed, None)
}

fn error(text: &str) -> XmlError {
    let (parsed, error) = read(text);
    error.unwrap_or_else(|| panic!("{text:?} was read as {parsed:?}"))
}

#[test]
fn a_stream_is_read_the_same_wherever_it_is_cut() {
    let text = format!(
        "{HEAD} \n<message to=\"a@b\" xml:lang='de' a='&#x263a;'><body>1 &lt; 2 &amp; \u{fc}\u{1f600}</body><x:y xmlns:x='urn:x' \
         x:z='1'><![CDATA[<no tag> & ]]]></x:y></message>  <presence/><iq\tid='1'\n><q xmlns='q'><r/></q></iq\n></stream:stream>"
    );
    let (whole, error) = read_bytes(text.as_bytes(), usize::MAX);
    assert_eq!(error, None);
    assert_eq!(whole.len(), 5);
    assert_eq!(whole.last(), Some(&Parsed::Close));
    for piece in 1..60 {
        assert_eq!(read_bytes(text.as_bytes(), piece), (whole.clone(), None), "in pieces of {piece}");
    }
    let Parsed::Element(message) = &whole[1] else { panic!("no message: {whole:?}") };
    assert_eq!(message.attr("xml:lang"), Some("de"));
    assert_eq!(message.attr("a"), Some("\u{263a}"));
    assert_eq!(message.child_text("body", ns::CLIENT).as_deref(), Some("1 < 2 & \u{fc}\u{1f600}"));
    let y = message.child("y", "urn:x").expect("the child with a prefix");
    assert_eq!(y.text(), "<no tag> & ]");
    assert_eq!(y.attributes()[0].ns.as_deref(), Some("urn:x"));
}

#[test]
fn what_is_written_reads_back() {
    let (parsed, _) = read("<message><x:y xmlns:x='urn:x' x:z='1\n'><body>&#13;</body></x:y><z xmlns=''/></message>");
    let Some(Parsed::Element(message)) = parsed.get(1) else { panic!("no message: {parsed:?}") };
    assert_eq!(document(message.to_xml().as_bytes(), LIMITS).as_ref(), Ok(message));
}

#[test]
fn what_xmpp_forbids_is_restricted() {
    for text in [
        "<!-- hello -->",
        "<!DOCTYPE a>",
        "<?php 1 ?>",
        "<message><!-- hello --></message>",
        "<message><?php 1 ?></message>",
        "<message>&bomb;</message>",
        "<message a='&bomb;'/>",
        "<?xml version='1.0'?>",
    ] {
        assert!(matches!(error(text), XmlError::Restricted(_)), "{text}: {:?}", error(text));
    }
    let bomb = "<?xml version='1.0'?><!DOCTYPE b [<!ENTITY a \"aaaa\">]><stream:stream>";
    assert!(matches!(read_bytes(bomb.as_bytes(), 7).1, Some(XmlError::Restricted(_))));
}

#[test]
fn what_is_no_xml_is_not_well_formed() {
    for text in [
        "<message></iq>",
        "<message><body></message>",
        "<message a=b/>",
        "<message a='1' a='2'/>",
        "<message xmlns:x='u' xmlns:y='u' x:a='1' y:a='2'/>",
        "<message a='<'/>",
        "<message a='1'b='2'/>",
        "<message a/>",
        "< message/>",
        "<1/>",
        "<message>]]></message>",
        "<message>&#0;</message>",
        "<message>&#xD800;</message>",
        "<message>& </message>;",
        "<message>\u{1}</message>",
        "<message><a:b:c xmlns:a='u'/></message>",
        "<message xmlns:xmlns='u'/>",
        "<message xmlns:a=''/>",
        "<![CDATA[x]]>",
        "</iq>",
        "</stream:stream><message/>",
        "<message\u{0}/>",
        "<message <",
    ] {
        assert!(matches!(error(text), XmlError::NotWellFormed(_)), "{text}: {:?}", error(text));
    }
    assert_eq!(error("<a:message/>"), XmlError::Prefix);
    assert_eq!(error("<message a:b='1'/>"), XmlError::Prefix);
    assert_eq!(error("hello"), XmlError::Text);
}

#[test]
fn half_a_character_is_no_utf_8() {
    let mut bytes = format!("{HEAD}<message><body>").into_bytes();
    bytes.extend([0xe2, 0x98]);
    bytes.extend(b"</body></message>");
    for piece in 1..40 {
        assert_eq!(read_bytes(&bytes, piece).1, Some(XmlError::Encoding));
    }
}

#[test]
fn another_encoding_is_refused() {
    let text = HEAD.replace("version='1.0'?", "version='1.0' encoding='latin1'?");
    assert_eq!(read_bytes(text.as_bytes(), 9).1, Some(XmlError::Encoding));
    let text = HEAD.replace("version='1.0'?", "version='1.0' encoding='UTF-8'?");
    assert_eq!(read_bytes(text.as_bytes(), 9).1, None);
}

#[test]
fn nothing_grows_beyond_its_bound() {
    let long = "x".repeat(20_000);
    for text in [
        format!("<message>{long}"),
        format!("<message a='{long}"),
        format!("<{long}"),
        format!("<message>{}", "<a/>".repeat(5000)),
        format!("<message>{}", "y ".repeat(10_000)),
        format!("<message><![CDATA[{long}"),
    ] {
        let (_, error) = read_bytes(format!("{HEAD}{text}").as_bytes(), 100);
        assert!(matches!(error, Some(XmlError::TooLong(_) | XmlError::TooMany(..))), "{error:?}");
    }
    assert_eq!(error(&"<a>".repeat(21)), XmlError::TooMany("levels", 20));
    let attributes: String = (0..11).map(|n| format!(" a{n}='1'")).collect();
    assert_eq!(error(&format!("<message{attributes}/>")), XmlError::TooMany("attributes", 10));
    assert_eq!(error(&format!("<message>{}</message>", "<a/>".repeat(101))), XmlError::TooMany("elements", 100));
    // White space between stanzas is no stanza, however much of it comes.
    let (_, error) = read_bytes(format!("{HEAD}{}", " ".repeat(50_000)).as_bytes(), 1000);
    assert_eq!(error, None);
}

#[test]
fn bounds_are_of_one_stanza_not_of_the_stream() {
    let stanza = format!("<message><body>{}</body></message>", "x".repeat(9_000));
    let (parsed, error) = read_bytes(format!("{HEAD}{}", stanza.repeat(5)).as_bytes(), 1000);
    assert_eq!((parsed.len(), error), (6, None));
}

#[test]
fn a_restart_forgets_the_stream_but_not_what_follows() {
    let mut reader = Reader::stream(LIMITS);
    reader.push(format!("{HEAD}<a/>{HEAD}<b/>").as_bytes());
    assert!(matches!(reader.read(), Ok(Some(Parsed::Open(_)))));
    assert!(matches!(reader.read(), Ok(Some(Parsed::Element(_)))));
    reader.restart();
    assert!(!reader.is_empty());
    assert!(matches!(reader.read(), Ok(Some(Parsed::Open(_)))));
    assert!(matches!(reader.read(), Ok(Some(Parsed::Element(_)))));
    assert!(reader.is_empty());
}

#[test]
fn namespaces_are_bounded_for_each_element_holds_its_own() {
    let limits = Limits::bytes(1 << 20);
    let of = |length: usize| format!("<message xmlns='{}'><a/></message>", "n".repeat(length));
    assert!(document(of(NS_BYTES_MAX).as_bytes(), limits).is_ok());
    let refused = XmlError::TooMany("bytes of a namespace", NS_BYTES_MAX);
    assert_eq!(document(of(NS_BYTES_MAX + 1).as_bytes(), limits), Err(refused));
    let prefixed = format!("<message xmlns:x='{}'><x:a/></message>", "n".repeat(NS_BYTES_MAX + 1));
    assert_eq!(document(prefixed.as_bytes(), limits), Err(refused));
    // So many at once, on each of the levels around; those of elements that have ended do not count.
    let level: String = (0..100).map(|n| format!(" xmlns:p{n}='u{n}'")).collect();
    let nested = |levels: usize| format!("{}{}", format!("<a{level}>").repeat(levels), "</a>".repeat(levels));
    assert!(document(nested(DECLARED_MAX / 100).as_bytes(), limits).is_ok());
    let refused = XmlError::TooMany("namespaces", DECLARED_MAX);
    assert_eq!(document(nested(DECLARED_MAX / 100 + 1).as_bytes(), limits), Err(refused));
    let beside = format!("<b>{}</b>", nested(1).repeat(100));
    assert!(document(beside.as_bytes(), limits).is_ok());
}

#[test]
fn garbage_never_panics() {
    // A walk through changed streams, the same in every run.
    let text = format!("{HEAD}<message a='&lt;'><b xmlns:c='d'><c:e/>&amp;<![CDATA[f]]></b></message>").into_bytes();
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize
    };
    for _ in 0..20_000 {
        let mut bytes = text.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = b"<>&'\"=/! \xff\x00x:;]["[next() % 16];
        }
        let piece = 1 + next() % 50;
        let (one, other) = (read_bytes(&bytes, piece), read_bytes(&bytes, usize::MAX));
        assert_eq!(one.1.is_none(), other.1.is_none());
    }
}
