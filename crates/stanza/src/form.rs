//! Data forms. XEP-0004, with the field types of its section 3.3; what a value may be is XEP-0122.

use crate::{Element, ns};

/// Most fields that are read from a form; those beyond do not count.
pub const FIELDS_MAX: usize = 200;

/// What values may be. XEP-0122.
const VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";

/// A form: asked for, filled in, or a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// `form`, `submit`, `cancel` or `result`.
    pub kind: String,
    /// `FORM_TYPE`, what the fields' names mean. [XEP-0068]
    pub form_type: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// What to do with it.
    pub instructions: Option<String>,
    /// The fields but for `FORM_TYPE`.
    pub fields: Vec<Field>,
    /// Columns of a result that has many rows: name and label. [XEP-0004 §protocol-results]
    pub reported: Vec<(String, String)>,
    /// The rows.
    pub items: Vec<Vec<Field>>,
}

/// A field of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub var: String,
    /// Type, such as `boolean` or `text-single`; empty where a submission leaves it out.
    pub kind: String,
    /// For people.
    pub label: Option<String>,
    /// Values.
    pub values: Vec<String>,
    /// Choices of a list: value and label.
    pub options: Vec<(String, String)>,
    /// It must be filled in.
    pub required: bool,
    /// What its values may be, for who fills it in.
    pub valid: Option<Valid>,
}

/// What values may be. [XEP-0122 §usecases]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Valid {
    /// A type of XML Schema, such as `xs:integer`.
    pub datatype: String,
    /// The least and the greatest value.
    pub range: Option<(String, String)>,
    /// Of a list whose choices are proposals: other values of the type are as good.
    pub open: bool,
}

impl Valid {
    /// A whole number in a range.
    pub fn integer(least: u64, most: u64) -> Self {
        Self { datatype: "xs:integer".into(), range: Some((least.to_string(), most.to_string())), open: false }
    }

    /// A value of a type, whichever.
    pub fn of(datatype: &str) -> Self {
        Self { datatype: datatype.into(), ..Self::default() }
    }

    fn element(&self) -> Element {
        let validate = Element::new("validate", VALIDATE).with_attr("datatype", self.datatype.as_str());
        let Some((least, most)) = &self.range else {
            return validate.with_child_opt(self.open.then(|| Element::new("open", VALIDATE)));
        };
        let range = Element::new("range", VALIDATE).with_attr("min", least.as_str());
        validate.with_child(range.with_attr("max", most.as_str()))
    }
}

impl Field {
    /// A field to be filled in, or shown.
    pub fn new(var: &str, kind: &str, label: &str) -> Self {
        let label = Some(label.to_owned()).filter(|label| !label.is_empty());
        Self { var: var.into(), kind: kind.into(), label, ..Self::default() }
    }

    /// `boolean`
    pub fn boolean(var: &str, label: &str, value: bool) -> Self {
        Self::new(var, "boolean", label).with(if value { "1" } else { "0" })
    }

    /// `text-single`
    pub fn text(var: &str, label: &str, value: &str) -> Self {
        Self::new(var, "text-single", label).with(value)
    }

    /// `list-single`
    pub fn list(var: &str, label: &str, value: &str, options: &[(&str, &str)]) -> Self {
        let mut field = Self::new(var, "list-single", label).with(value);
        field.options = options.iter().map(|(value, label)| ((*value).to_owned(), (*label).to_owned())).collect();
        field
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// With what its values may be.
    #[must_use]
    pub fn with_valid(mut self, valid: Valid) -> Self {
        self.valid = Some(valid);
        self
    }

    /// The first value.
    pub fn value(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }

    /// The value of a `boolean`, `None` for anything else. [XEP-0004 §protocol-fieldtypes]
    pub fn bool(&self) -> Option<bool> {
        match self.value()?.trim() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    fn element(&self) -> Element {
        let label = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut field = Element::new("field", ns::DATA_FORMS).with_attr("var", self.var.as_str());
        field.set_attr("type", label(&self.kind));
        field.set_attr("label", self.label.clone());
        for (value, name) in &self.options {
            let option = Element::new("option", ns::DATA_FORMS).with_attr_opt("label", label(name));
            field.push(option.with_child(Element::text_of("value", ns::DATA_FORMS, value.as_str())));
        }
        if let Some(valid) = &self.valid {
            field.push(valid.element());
        }
        if self.required {
            field.push(Element::new("required", ns::DATA_FORMS));
        }
        field.with_children(self.values.iter().map(|value| Element::text_of("value", ns::DATA_FORMS, value.as_str())))
    }
}

impl Form {
    /// An empty form of that kind whose names mean what `form_type` says.
    pub fn new(kind: &str, form_type: &str) -> Self {
        let form_type = Some(form_type.to_owned());
        let (fields, reported, items) = (Vec::new(), Vec::new(), Vec::new());
        Self { kind: kind.into(), form_type, title: None, instructions: None, fields, reported, items }
    }

    /// With the columns of a result that has many rows: name and label.
    #[must_use]
    pub fn with_reported(mut self, columns: &[(&str, &str)]) -> Self {
        self.reported = columns.iter().map(|(name, label)| ((*name).to_owned(), (*label).to_owned())).collect();
        self
    }

    /// With one more row.
    #[must_use]
    pub fn with_item(mut self, item: Vec<Field>) -> Self {
        self.items.push(item);
        self
    }

    /// With a field.
    #[must_use]
    pub fn with(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// The form in `<x xmlns='jabber:x:data'/>`; `None` for another element.
    pub fn parse(x: &Element) -> Option<Self> {
        if !x.is("x", ns::DATA_FORMS) {
            return None;
        }
        let text = |name: &str| x.child_text(name, ns::DATA_FORMS);
        let mut form = Self {
            kind: x.kind().unwrap_or("form").to_owned(),
            form_type: None,
            title: text("title"),
            instructions: text("instructions"),
            fields: Vec::new(),
            reported: Vec::new(),
            items: Vec::new(),
        };
        for field in x.children().filter(|child| child.is("field", ns::DATA_FORMS)).take(FIELDS_MAX) {
            let values =
                field.children().filter(|child| child.is("value", ns::DATA_FORMS)).map(Element::text).collect();
            let var = field.attr("var").unwrap_or_default().to_owned();
            let field = Field { var, kind: field.kind().unwrap_or_default().to_owned(), values, ..Field::default() };
            match field.var == "FORM_TYPE" {
                true => form.form_type = field.value().map(ToOwned::to_owned),
                false => form.fields.push(field),
            }
        }
        Some(form)
    }

    /// The form among the children of an element.
    pub fn within(parent: &Element) -> Option<Self> {
        parent.child("x", ns::DATA_FORMS).and_then(Self::parse)
    }

    /// The field of that name.
    pub fn field(&self, var: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.var == var)
    }

    /// The first value of the field of that name.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.field(var)?.value()
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let mut x = Element::new("x", ns::DATA_FORMS).with_attr("type", self.kind.as_str());
        for (name, text) in [("title", &self.title), ("instructions", &self.instructions)] {
            if let Some(text) = text {
                x.push(Element::text_of(name, ns::DATA_FORMS, text.as_str()));
            }
        }
        if let Some(form_type) = &self.form_type {
            // A submission's fields need no types.
            let kind = if self.kind == "submit" { "" } else { "hidden" };
            x.push(Field::new("FORM_TYPE", kind, "").with(form_type.as_str()).element());
        }
        x = x.with_children(self.fields.iter().map(Field::element));
        if !self.reported.is_empty() {
            let columns = self.reported.iter().map(|(name, label)| Field::new(name, "", label).element());
            x.push(Element::new("reported", ns::DATA_FORMS).with_children(columns));
        }
        let row =
            |item: &Vec<Field>| Element::new("item", ns::DATA_FORMS).with_children(item.iter().map(Field::element));
        x.with_children(self.items.iter().map(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_reads_back_as_it_was_written() {
        let form = Form::new("submit", "http://jabber.org/protocol/muc#roomconfig")
            .with(Field {
                label: None,
                kind: "boolean".into(),
                ..Field::boolean("muc#roomconfig_membersonly", "", true)
            })
            .with(Field { var: "who".into(), values: vec!["a".into(), "b".into()], ..Field::default() });
        let again = Form::parse(&form.element()).expect("it is a form");
        assert_eq!(again, form);
        assert_eq!(again.field("muc#roomconfig_membersonly").and_then(Field::bool), Some(true));
    }

    #[test]
    fn a_field_says_what_its_values_may_be_and_a_result_may_have_rows() {
        let number = Field::text("n", "", "3").with_valid(Valid::integer(0, 9)).element();
        let valid = number.child("validate", VALIDATE).expect("it says so");
        assert_eq!(valid.attr("datatype"), Some("xs:integer"));
        assert_eq!(valid.child("range", VALIDATE).and_then(|range| range.attr("max")), Some("9"));
        let table = Form::new("result", "t").with_reported(&[("jid", "Who")]);
        let table = table.with_item(vec![Field::new("jid", "", "").with("a@b")]).element();
        assert!(table.has_child("reported", ns::DATA_FORMS) && table.has_child("item", ns::DATA_FORMS));
    }
}
