//! Mutation of corpus files: each input is a function of corpus, seed and index.

/// Longest input, in bytes.
const LONGEST: usize = 96 << 10;
/// Longest corpus file whose words enter the dictionary, in bytes.
const LONGEST_TEXT: usize = 32 << 10;

/// Numbers at the limits of integer types and of common checks.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    7,
    31,
    32,
    64,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Numbers in text that are hard to parse or to compute with.
const WRITTEN_NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "2",
    "65536",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e308",
    "1e999",
    "-0.0",
    "1e-320",
    "0.1",
    "1.0",
    "nan",
    "inf",
    "0x7fffffff",
];

/// Fragments that break parsers and terminals.
const FRAGMENTS: [&[u8]; 26] = [
    b"\x00",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u202e",
    b"\x1b]52;c;cHduZWQ=\x07",
    b"\xc2\x9b31m",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"e\xcc\x81\xcc\x81\xcc\x81\xcc\x81",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\xe2\x96\x81",
];

/// SplitMix64 (Steele, Lea and Flood 2014): enough for mutations, and cheap to seed.
pub struct Rng(u64);

impl Rng {
    /// Creates the generator of one input.
    pub fn new(seed: u64, index: u64) -> Rng {
        let mut rng = Rng(seed);
        rng.0 = rng.next() ^ index.wrapping_mul(0xd134_2543_de82_ef95);
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Corpus of a target, with the words of its text files.
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Creates a mutator of the given files, of which there must be one at least.
    pub fn new(corpus: Vec<Vec<u8>>) -> Mutator {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for text in corpus.iter().filter(|text| text.len() <= LONGEST_TEXT) {
            let letter = |b: &u8| b.is_ascii_alphanumeric() || b"_.-|<>".contains(b);
            words.extend(
                text.split(|b| !letter(b))
                    .filter(|word| (2..=40).contains(&word.len()))
                    .map(<[u8]>::to_vec),
            );
        }
        words.sort();
        words.dedup();
        Mutator { corpus, words }
    }

    /// Writes the input with this index to `out`.
    pub fn input(&self, seed: u64, index: u64, out: &mut Vec<u8>) {
        let mut rng = Rng::new(seed, index);
        out.clear();
        out.extend_from_slice(&self.corpus[rng.below(self.corpus.len())]);
        // Mostly few changes: inputs that stay valid in most parts reach further.
        let changes = match rng.below(8) {
            0..4 => 1,
            4..6 => 2,
            6 => 4,
            _ => 1 + rng.below(12),
        };
        for _ in 0..changes {
            self.change(&mut rng, out);
            out.truncate(LONGEST);
        }
    }

    fn change(&self, rng: &mut Rng, out: &mut Vec<u8>) {
        let (from, to) = range(rng, out.len());
        match rng.below(19) {
            0 if !out.is_empty() => out[from] ^= 1 << rng.below(8),
            1 if !out.is_empty() => out[from] = rng.next() as u8,
            2 => overwrite(out, from, rng.pick(&FRAGMENTS)),
            3 => insert(out, from, rng.pick(&FRAGMENTS)),
            4 => {
                let number = NUMBERS[rng.below(NUMBERS.len())].to_le_bytes();
                overwrite(out, from, &number[..1 << rng.below(4)]);
            }
            5 => add(rng, out, from),
            6 => drop(out.drain(from..to)),
            7 => {
                let copy = out[from..to].to_vec();
                let at = position(rng, out.len());
                insert(out, at, &copy);
            }
            8 => {
                let copy = out[from..to].to_vec();
                let at = position(rng, out.len());
                overwrite(out, at, &copy);
            }
            9 => {
                let other = &self.corpus[rng.below(self.corpus.len())];
                let (other_from, other_to) = range(rng, other.len());
                out.splice(from..to, other[other_from..other_to].iter().copied());
            }
            10 => {
                let other = &self.corpus[rng.below(self.corpus.len())];
                out.truncate(from);
                out.extend_from_slice(&other[position(rng, other.len())..]);
            }
            11 | 12 => replace_number(rng, out, from),
            13 if !self.words.is_empty() => {
                insert(out, from, &self.words[rng.below(self.words.len())])
            }
            14 | 15 if !self.words.is_empty() => self.replace_word(rng, out, from),
            16 => {
                let copy = out[from..to.min(from + 64)].to_vec();
                let most = (LONGEST / 2) / copy.len().max(1);
                let times = if rng.below(4) == 0 { rng.below(most) } else { rng.below(40) };
                insert(out, from, &copy.repeat(times));
            }
            17 => {
                // Deep nesting, closed or not.
                let (open, close) =
                    [("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("{{", "}}"), ("-", "")]
                        [rng.below(5)];
                let depth = 1 << rng.below(13);
                insert(out, to, close.repeat(if rng.below(2) == 0 { depth } else { 0 }).as_bytes());
                insert(out, from, open.repeat(depth).as_bytes());
            }
            18 => self.move_line(rng, out, from),
            _ => out.truncate(from),
        }
    }

    /// Replaces a word of the input by one of the dictionary.
    fn replace_word(&self, rng: &mut Rng, out: &mut Vec<u8>, from: usize) {
        let begin =
            out[from..].iter().position(u8::is_ascii_alphanumeric).map_or(from, |at| from + at);
        let end = out[begin..]
            .iter()
            .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
            .map_or(out.len(), |at| begin + at);
        out.splice(begin..end, self.words[rng.below(self.words.len())].iter().copied());
    }

    /// Repeats, removes or brings in a whole line.
    fn move_line(&self, rng: &mut Rng, out: &mut Vec<u8>, from: usize) {
        let (begin, end) = line(out, from);
        match rng.below(3) {
            0 => drop(out.drain(begin..end)),
            1 => {
                let copy = out[begin..end].to_vec();
                insert(out, begin, &copy);
            }
            _ => {
                let other = &self.corpus[rng.below(self.corpus.len())];
                let (other_begin, other_end) = line(other, position(rng, other.len()));
                let copy = other[other_begin..other_end].to_vec();
                insert(out, begin, &copy);
            }
        }
    }
}

/// Returns a random position in `0..len`, or 0 if that is empty.
///
/// Half of the positions lie near the start, where headers are.
fn position(rng: &mut Rng, len: usize) -> usize {
    if rng.below(2) == 0 { rng.below(len.min(1024)) } else { rng.below(len) }
}

/// Returns start and end of a range, mostly a short one.
fn range(rng: &mut Rng, len: usize) -> (usize, usize) {
    let from = position(rng, len);
    let most = if rng.below(4) == 0 { len - from } else { (len - from).min(16) };
    (from, from + rng.below(most + 1))
}

/// Returns the bounds of the line that contains `at`, its end included.
fn line(text: &[u8], at: usize) -> (usize, usize) {
    let begin = text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    (begin, text[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |end| at + end + 1))
}

fn overwrite(out: &mut [u8], at: usize, with: &[u8]) {
    let end = out.len().min(at + with.len());
    out[at..end].copy_from_slice(&with[..end - at]);
}

fn insert(out: &mut Vec<u8>, at: usize, with: &[u8]) {
    out.splice(at..at, with.iter().copied());
}

/// Adds a small amount to a little-endian integer.
fn add(rng: &mut Rng, out: &mut [u8], at: usize) {
    let width = (1 << rng.below(4)).min(out.len() - at);
    let by = (rng.below(33) as u64).wrapping_sub(16);
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&out[at..at + width]);
    let sum = u64::from_le_bytes(bytes).wrapping_add(by).to_le_bytes();
    out[at..at + width].copy_from_slice(&sum[..width]);
}

/// Replaces the next number in the text.
fn replace_number(rng: &mut Rng, out: &mut Vec<u8>, from: usize) {
    let Some(begin) = out[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else {
        return;
    };
    let end = out[begin..]
        .iter()
        .position(|b| !b.is_ascii_digit() && !b".eE".contains(b))
        .map_or(out.len(), |at| begin + at);
    out.splice(begin..end, rng.pick(&WRITTEN_NUMBERS.map(str::as_bytes)).iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_functions_of_seed_and_index() {
        let mutator = Mutator::new(vec![b"{\"a\": 12}\n".to_vec(), b"second = [1, 2]\n".to_vec()]);
        let input = |seed, index| {
            let mut out = Vec::new();
            mutator.input(seed, index, &mut out);
            out
        };
        let all: Vec<Vec<u8>> = (0..2000).map(|index| input(1, index)).collect();
        assert!((0..2000).rev().all(|index| input(1, index) == all[index as usize]));
        assert!(all.iter().all(|input| input.len() <= LONGEST));
        let distinct: std::collections::HashSet<&Vec<u8>> = all.iter().collect();
        assert!(distinct.len() > 1500, "{}", distinct.len());
        assert_ne!((0..100).map(|index| input(2, index)).collect::<Vec<_>>(), all[..100]);
    }

    #[test]
    fn empty_and_short_files_are_mutated() {
        let mutator = Mutator::new(vec![Vec::new(), b"1".to_vec()]);
        let mut out = Vec::new();
        let mut lengths = std::collections::HashSet::new();
        for index in 0..20_000 {
            mutator.input(3, index, &mut out);
            lengths.insert(out.len());
        }
        assert!(lengths.contains(&0) && lengths.len() > 50, "{}", lengths.len());
    }
}
