//! What a source of COPY names: a path, or a pattern for several.

use std::fmt;

use cakework_dockerfile::Pattern;

/// A source, component by component: `*` never matches `/`, so that each one has a directory of its own to match in.
#[derive(Debug)]
pub struct Wanted {
    text: String,
    pub(super) components: Vec<Component>,
}

/// A component of a source.
pub(super) enum Component {
    /// This name; `..` too.
    Name(String),
    /// Every name for which the answer is yes.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
}

impl Wanted {
    /// Reads a source; `None` where it is no pattern.
    pub fn parse(source: &str) -> Option<Self> {
        let component = |text| {
            let pattern = Pattern::parse(text)?;
            Some(match pattern.literal() {
                Some(name) => Component::Name(name.to_owned()),
                None => Component::Matching(Box::new(move |name| pattern.matches(name))),
            })
        };
        let components = super::inside::components(source).map(component).collect::<Option<_>>()?;
        Some(Self::new(source, components))
    }

    pub(super) fn new(text: &str, components: Vec<Component>) -> Self {
        Self { text: text.to_owned(), components }
    }

    /// As it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The names before the first wildcard, as a path.
    pub(super) fn fixed(&self) -> String {
        let name = |component: &Component| match component {
            Component::Name(name) => Some(name.clone()),
            Component::Matching(_) => None,
        };
        self.components.iter().map_while(name).collect::<Vec<_>>().join("/")
    }

    /// The components from the first wildcard on.
    pub(super) fn open(&self) -> &[Component] {
        let wildcard = self.components.iter().position(|component| matches!(component, Component::Matching(_)));
        &self.components[wildcard.unwrap_or(self.components.len())..]
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.debug_tuple("Name").field(name).finish(),
            Self::Matching(_) => f.write_str("Matching"),
        }
    }
}
