//! Result set management: pages of a longer answer. XEP-0059.

use crate::{Element, ns};

/// Which page is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageWish {
    /// Most items wanted; 0 asks for the count alone.
    pub max: Option<usize>,
    /// The page after this item.
    pub after: Option<String>,
    /// The page before this item; the empty text is the last page.
    pub before: Option<String>,
    /// The page that begins at this index.
    pub index: Option<usize>,
}

/// Which page was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageGiven {
    /// Its first item.
    pub first: Option<String>,
    /// Where that stands in the whole.
    pub index: Option<usize>,
    /// Its last item.
    pub last: Option<String>,
    /// Items in the whole, if known.
    pub count: Option<usize>,
}

impl PageWish {
    /// The wish among the children of a request. A number that is none counts as not said.
    pub fn within(parent: &Element) -> Option<Self> {
        let set = parent.child("set", ns::RSM)?;
        let text = |name: &str| set.child_text(name, ns::RSM);
        let number = |name: &str| text(name).and_then(|text| text.trim().parse().ok());
        Some(Self { max: number("max"), after: text("after"), before: text("before"), index: number("index") })
    }
}

impl PageGiven {
    /// `<set/>`
    pub fn element(&self) -> Element {
        let of = |name: &'static str, text: &str| Element::text_of(name, ns::RSM, text);
        let index = self.index.map(|index| index.to_string());
        let first = self.first.as_ref().map(|first| of("first", first).with_attr_opt("index", index));
        Element::new("set", ns::RSM)
            .with_child_opt(first)
            .with_child_opt(self.last.as_ref().map(|last| of("last", last)))
            .with_child_opt(self.count.map(|count| of("count", &count.to_string())))
    }
}

impl PageWish {
    /// The page of a list that is there as a whole, `id` naming its items; `None` where the item named is not in it.
    pub fn cut<T>(&self, all: Vec<T>, most: usize, id: impl Fn(&T) -> String) -> Option<(Vec<T>, PageGiven)> {
        let (count, max) = (all.len(), self.max.unwrap_or(most).min(most));
        let place = |wanted: &str| all.iter().position(|item| id(item) == wanted);
        let (from, to) = match (&self.after, self.before.as_deref(), self.index) {
            (Some(after), _, _) => {
                let from = place(after)? + 1;
                (from, (from + max).min(count))
            }
            (None, Some(""), _) => (count.saturating_sub(max), count),
            (None, Some(before), _) => {
                let to = place(before)?;
                (to.saturating_sub(max), to)
            }
            (None, None, index) => {
                let from = index.unwrap_or(0).min(count);
                (from, (from + max).min(count))
            }
        };
        let page: Vec<T> = all.into_iter().skip(from).take(to - from).collect();
        let given = PageGiven {
            first: page.first().map(&id),
            index: (!page.is_empty()).then_some(from),
            last: page.last().map(&id),
            count: Some(count),
        };
        Some((page, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_in_both_directions() {
        let all = || vec![1, 2, 3, 4, 5];
        let id = |n: &i32| n.to_string();
        let wish = PageWish { max: Some(2), after: Some("2".into()), ..PageWish::default() };
        let (page, given) = wish.cut(all(), 100, id).expect("2 is there");
        assert_eq!((page, given.index, given.count), (vec![3, 4], Some(2), Some(5)));
        let wish = PageWish { max: Some(2), before: Some(String::new()), ..PageWish::default() };
        assert_eq!(wish.cut(all(), 100, id).expect("the last page").0, vec![4, 5]);
        let wish = PageWish { after: Some("9".into()), ..PageWish::default() };
        assert!(wish.cut(all(), 100, id).is_none());
    }
}
