//! A piece of XML with namespaces, as XMPP allows it: elements, attributes and text. RFC 6120, section 11.
//!
//! Prefixes are not kept: names are what they mean. Writing declares a namespace wherever it differs from that of the
//! parent, so that what is written means the same wherever it is put.

use std::borrow::Cow;

use crate::ns;

/// A name or a namespace; most are known when the program is compiled.
pub type Name = Cow<'static, str>;

/// An element: name, namespace, attributes, children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: Name,
    ns: Name,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// An attribute. `xml:lang` has the name `xml:lang` and no namespace; others with a namespace are rare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Namespace, for the few attributes that have one.
    pub ns: Option<Name>,
    /// Local name.
    pub name: Name,
    /// Value, unescaped.
    pub value: String,
}

/// What is within an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child.
    Element(Element),
    /// Text, unescaped.
    Text(String),
}

impl Element {
    /// An empty element.
    pub fn new(name: impl Into<Name>, ns: impl Into<Name>) -> Self {
        Self { name: name.into(), ns: ns.into(), attributes: Vec::new(), nodes: Vec::new() }
    }

    /// Local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether it is called so.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// Gives it another namespace, and those children that share the old one.
    pub fn move_ns(&mut self, to: impl Into<Name>) {
        self.ns = to.into();
    }

    /// Value of an attribute without namespace (or `xml:lang`).
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.ns.is_none() && a.name == name).map(|a| a.value.as_str())
    }

    /// All attributes.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Sets an attribute, or removes it.
    pub fn set_attr(&mut self, name: impl Into<Name>, value: Option<impl Into<String>>) {
        let name = name.into();
        self.attributes.retain(|a| a.ns.is_some() || a.name != name);
        if let Some(value) = value {
            self.attributes.push(Attribute { ns: None, name, value: value.into() });
        }
    }

    /// Adds an attribute as a parser found it.
    pub fn push_attribute(&mut self, attribute: Attribute) {
        self.attributes.push(attribute);
    }

    /// With an attribute.
    #[must_use]
    pub fn with_attr(mut self, name: impl Into<Name>, value: impl Into<String>) -> Self {
        self.set_attr(name, Some(value));
        self
    }

    /// With an attribute where there is a value.
    #[must_use]
    pub fn with_attr_opt(mut self, name: impl Into<Name>, value: Option<impl Into<String>>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// With a child.
    #[must_use]
    pub fn with_child(mut self, child: Element) -> Self {
        self.nodes.push(Node::Element(child));
        self
    }

    /// With a child where there is one.
    #[must_use]
    pub fn with_child_opt(mut self, child: Option<Element>) -> Self {
        self.nodes.extend(child.map(Node::Element));
        self
    }

    /// With children.
    #[must_use]
    pub fn with_children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// With text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.push_text(text.into());
        self
    }

    /// An element with nothing but text.
    pub fn text_of(name: impl Into<Name>, ns: impl Into<Name>, text: impl Into<String>) -> Self {
        Self::new(name, ns).with_text(text)
    }

    /// Appends a child.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Appends text.
    pub fn push_text(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        match self.nodes.last_mut() {
            Some(Node::Text(before)) => before.push_str(&text),
            _ => self.nodes.push(Node::Text(text)),
        }
    }

    /// Children and text in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The children.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The children, to be changed.
    pub fn children_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Element> {
        self.nodes.iter_mut().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The first child of that name.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// Whether it has such a child.
    pub fn has_child(&self, name: &str, ns: &str) -> bool {
        self.child(name, ns).is_some()
    }

    /// Whether it has a child in that namespace.
    pub fn has_ns(&self, ns: &str) -> bool {
        self.children().any(|child| child.ns() == ns)
    }

    /// Text of the first child of that name.
    pub fn child_text(&self, name: &str, ns: &str) -> Option<String> {
        self.child(name, ns).map(Element::text)
    }

    /// Keeps the children that `keep` says yes to; text stays.
    pub fn retain_children(&mut self, mut keep: impl FnMut(&Element) -> bool) {
        self.nodes.retain(|node| match node {
            Node::Element(child) => keep(child),
            Node::Text(_) => true,
        });
    }

    /// Takes the children out.
    pub fn take_children(&mut self) -> Vec<Element> {
        let nodes = std::mem::take(&mut self.nodes);
        let children = nodes.into_iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        });
        children.collect()
    }

    /// The text directly within.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// `id` of a stanza.
    pub fn id(&self) -> Option<&str> {
        self.attr("id")
    }

    /// `type` of a stanza.
    pub fn kind(&self) -> Option<&str> {
        self.attr("type")
    }

    /// As XML, with its namespace declared.
    pub fn to_xml(&self) -> String {
        let mut out = String::with_capacity(256);
        self.write(&mut out, "");
        out
    }

    /// Writes it as XML at a place where the default namespace is `around`.
    pub fn write(&self, out: &mut String, around: &str) {
        self.write_start(out, around);
        if self.nodes.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for node in &self.nodes {
            match node {
                Node::Text(text) => escape(text, out),
                Node::Element(child) => child.write(out, &self.ns),
            }
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }

    /// `<name attributes`, without the end of the tag.
    fn write_start(&self, out: &mut String, around: &str) {
        out.push('<');
        out.push_str(&self.name);
        if self.ns != around {
            out.push_str(" xmlns='");
            escape(&self.ns, out);
            out.push('\'');
        }
        for (n, attribute) in self.attributes.iter().enumerate() {
            out.push(' ');
            match &attribute.ns {
                None => out.push_str(&attribute.name),
                Some(space) if space == ns::XML => {
                    out.push_str("xml:");
                    out.push_str(&attribute.name);
                }
                Some(space) => {
                    let prefix = format!("a{n}");
                    out.push_str("xmlns:");
                    out.push_str(&prefix);
                    out.push_str("='");
                    escape(space, out);
                    out.push_str("' ");
                    out.push_str(&prefix);
                    out.push(':');
                    out.push_str(&attribute.name);
                }
            }
            out.push_str("='");
            escape(&attribute.value, out);
            out.push('\'');
        }
    }
}

impl Drop for Element {
    // A deep tree must not take the stack with it.
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.nodes);
        while let Some(node) = rest.pop() {
            if let Node::Element(mut child) = node {
                rest.append(&mut child.nodes);
            }
        }
    }
}

/// Writes text so that it reads back as the same text, in content and in attributes.
pub fn escape(text: &str, out: &mut String) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let entity = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'\'' => "&apos;",
            b'"' => "&quot;",
            // Readers of XML would make a space or a line feed of these.
            b'\r' => "&#xd;",
            b'\n' => "&#xa;",
            b'\t' => "&#x9;",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(entity);
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_declared_where_they_change() {
        let message = Element::new("message", ns::CLIENT)
            .with_attr("to", "a@b")
            .with_child(Element::text_of("body", ns::CLIENT, "1 < 2 & 'so'"))
            .with_child(Element::new("active", ns::CHAT_STATES));
        let mut out = String::new();
        message.write(&mut out, ns::CLIENT);
        assert_eq!(
            out,
            "<message to='a@b'><body>1 &lt; 2 &amp; &apos;so&apos;</body>\
             <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        assert!(message.to_xml().starts_with("<message xmlns='jabber:client' to='a@b'>"));
    }

    #[test]
    fn a_tree_as_deep_as_memory_is_dropped_without_recursion() {
        let mut tree = Element::new("x", "y");
        for _ in 0..200_000 {
            tree = Element::new("x", "y").with_child(tree);
        }
        drop(tree);
    }
}
