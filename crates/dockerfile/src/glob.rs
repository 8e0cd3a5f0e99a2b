//! A path's pattern: Go's `filepath.Match`, and moby's `**` on top of it.
//!
//! Matching keeps a set of places in the pattern and moves all of them with each letter, so its time is bounded by the
//! product of both lengths whatever the pattern.

/// Bytes of a pattern.
pub(crate) const PATTERN_MAX_BYTES: usize = 4096;

/// A pattern, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A letter.
    Exactly(char),
    /// `?`: a letter, but `/`.
    Letter,
    /// `[…]`: a letter, but `/`.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any text without `/`.
    Name,
    /// `**` at the end: any text.
    Anything,
    /// `**` before something: nothing, or any text that ends with `/`.
    Directories,
}

impl Glob {
    /// `filepath.Match`; `None` where it is no pattern.
    pub fn path(text: &str) -> Option<Self> {
        Self::compile(text, false)
    }

    /// A pattern of `.dockerignore`.
    pub fn ignore(text: &str) -> Option<Self> {
        // moby compares a pattern that is `**` and plain text by its end: `**x` means `ax` too, unlike `**x*`.
        let plain = |rest: &str| !rest.contains(['*', '?', '[', ']', '\\']);
        if let Some(end) = text.strip_prefix("**").filter(|end| !end.starts_with('/') && plain(end)) {
            let letters = end.chars().map(Piece::Exactly);
            return Some(Self { pieces: std::iter::once(Piece::Anything).chain(letters).collect() });
        }
        Self::compile(text, true)
    }

    /// The path, where nothing stands for something else.
    pub fn literal(&self) -> Option<String> {
        self.pieces.iter().map(|piece| if let Piece::Exactly(letter) = piece { Some(*letter) } else { None }).collect()
    }

    /// Whether all of the path is meant.
    pub fn matches(&self, path: &str) -> bool {
        let mut places = Places::new(self);
        path.chars().for_each(|letter| places.step(letter));
        places.at_end()
    }

    /// Whether the path is meant, or a directory above it.
    pub fn covers(&self, path: &str) -> bool {
        let mut places = Places::new(self);
        for letter in path.chars() {
            if letter == '/' && places.at_end() {
                return true;
            }
            places.step(letter);
        }
        places.at_end()
    }

    /// Whether something below the directory may be meant.
    pub fn reaches_below(&self, directory: &str) -> bool {
        let mut places = Places::new(self);
        directory.chars().chain(['/']).for_each(|letter| places.step(letter));
        !places.active.is_empty()
    }

    fn compile(text: &str, double_star: bool) -> Option<Self> {
        if text.len() > PATTERN_MAX_BYTES {
            return None;
        }
        let mut letters = text.chars().peekable();
        let mut pieces = Vec::new();
        while let Some(letter) = letters.next() {
            let piece = match letter {
                '*' if double_star && letters.next_if_eq(&'*').is_some() => {
                    letters.next_if_eq(&'/');
                    if letters.peek().is_some() { Piece::Directories } else { Piece::Anything }
                }
                '*' => Piece::Name,
                '?' => Piece::Letter,
                '\\' => Piece::Exactly(letters.next()?),
                '[' => class(&mut letters)?,
                other => Piece::Exactly(other),
            };
            // Twice in a row is no more than once, and long rows would have to be walked for each letter.
            if !(matches!(piece, Piece::Name | Piece::Directories) && pieces.last() == Some(&piece)) {
                pieces.push(piece);
            }
        }
        Some(Self { pieces })
    }
}

/// What follows a `[`, as Go reads it: `^` negates, `\` escapes, and neither `]` nor `-` stands for itself.
fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Piece> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || letters.next_if_eq(&']').is_none() {
        let mut one = || match letters.next()? {
            '-' | ']' => None,
            '\\' => letters.next(),
            other => Some(other),
        };
        let low = one()?;
        let high = if letters.next_if_eq(&'-').is_some() {
            match letters.next()? {
                '-' | ']' => return None,
                '\\' => letters.next()?,
                other => other,
            }
        } else {
            low
        };
        ranges.push((low, high));
        letters.peek()?;
    }
    Some(Piece::Class { negated, ranges })
}

/// The places in a pattern that a path's beginning leads to; the place after the last piece is its end.
struct Places<'a> {
    glob: &'a Glob,
    active: Vec<usize>,
    next: Vec<usize>,
    seen: Vec<bool>,
}

impl<'a> Places<'a> {
    fn new(glob: &'a Glob) -> Self {
        let seen = vec![false; glob.pieces.len() + 1];
        let mut places = Self { glob, active: Vec::new(), next: Vec::new(), seen };
        places.enter(0);
        places.turn();
        places
    }

    /// Adds a place, and those after it that are reached without a letter.
    fn enter(&mut self, mut place: usize) {
        loop {
            self.stay(place);
            match self.glob.pieces.get(place) {
                Some(Piece::Name | Piece::Anything | Piece::Directories) => place += 1,
                _ => return,
            }
        }
    }

    fn turn(&mut self) {
        self.next.iter().for_each(|place| self.seen[*place] = false);
        std::mem::swap(&mut self.active, &mut self.next);
        self.next.clear();
    }

    fn step(&mut self, letter: char) {
        let active = std::mem::take(&mut self.active);
        for place in &active {
            match self.glob.pieces.get(*place) {
                None => {}
                Some(Piece::Exactly(exactly)) if *exactly == letter => self.enter(place + 1),
                Some(Piece::Letter) if letter != '/' => self.enter(place + 1),
                Some(Piece::Class { negated, ranges })
                    if letter != '/'
                        && ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != *negated =>
                {
                    self.enter(place + 1);
                }
                Some(Piece::Name) if letter != '/' => self.enter(*place),
                Some(Piece::Anything) => self.enter(*place),
                // Within, it can't end: only after a `/` is what follows reached again.
                Some(Piece::Directories) => {
                    if letter == '/' {
                        self.enter(*place);
                    } else {
                        self.stay(*place);
                    }
                }
                _ => {}
            }
        }
        self.active = active;
        self.active.clear();
        self.turn();
    }

    /// Adds a place alone.
    fn stay(&mut self, place: usize) {
        if !self.seen[place] {
            self.seen[place] = true;
            self.next.push(place);
        }
    }

    fn at_end(&self) -> bool {
        self.active.contains(&self.glob.pieces.len())
    }
}
