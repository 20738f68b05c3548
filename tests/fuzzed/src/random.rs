//! Numbers, and texts of which some mean something to the host.

use hostile::bindings::fakecloud::elasticache::types::{Denial, Error, InvalidInput};

/// Texts that lead somewhere, or look as if they did.
const TEXTS: [&str; 24] = [
    "",
    "a",
    "fuzzed-0",
    "fuzzed-1",
    "fuzzed-2",
    "bystander-running",
    "bystander-ended",
    "bystander-data",
    "fakecloud-elasticache-data-k0",
    "../../etc/passwd",
    "/data",
    "/data/dump.rdb",
    "dump.rdb",
    "appendonlydir/appendonly.aof.manifest",
    "/",
    ".",
    "redis:7-alpine",
    "memcached:1.6-alpine",
    "evil:latest",
    "fakecloud-policy-x",
    "fakecloud-instance",
    "a\0b",
    "two\r\nlines",
    "\u{202e}\u{1f980}\u{fffd}",
];

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// Begins at a place that depends on these bytes: FNV-1a.
    pub fn new(seed: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(seed.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 on, and less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A place in something of this length, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Small, mostly; else anything.
    pub fn number(&mut self) -> u32 {
        if self.one_in(50) { self.next() as u32 } else { self.below(4) as u32 }
    }

    /// Milliseconds to wait: what waits long ends the operation.
    pub fn wait(&mut self) -> u32 {
        if self.one_in(5_000) { u32::MAX } else { self.below(3) as u32 }
    }

    pub fn text(&mut self) -> String {
        match self.below(200) {
            0 => "x".repeat(self.index(100_000)),
            1..=10 => "n".repeat(self.index(300)),
            11..=40 => {
                (0..self.below(12)).filter_map(|_| char::from_u32(self.below(0x11_0000) as u32)).collect()
            }
            _ => self.pick(&TEXTS).to_owned(),
        }
    }

    pub fn texts(&mut self, most: u64) -> Vec<String> {
        (0..self.below(most)).map(|_| self.text()).collect()
    }

    pub fn pairs(&mut self, most: u64) -> Vec<(String, String)> {
        (0..self.below(most)).map(|_| (self.text(), self.text())).collect()
    }

    /// One of a few that are likely to be there.
    pub fn name(&mut self) -> String {
        if self.one_in(6) { self.text() } else { format!("fuzzed-{}", self.below(6)) }
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = if self.one_in(100) { 70_000 } else { 100 };
        vec![self.next() as u8; self.index(length)]
    }

    pub fn error(&mut self) -> Error {
        let text = self.text();
        match self.below(10) {
            0 => Error::NotFound(text),
            1 => Error::Conflict(text),
            2 => Error::PortTaken(self.next() as u16),
            3 => Error::Denied(Denial { what: text, grant: self.text() }),
            4 => Error::Unavailable(text),
            5 => Error::Timeout(text),
            6 => Error::Invalid(InvalidInput { field: text, reason: self.text() }),
            7 => Error::EngineError(text),
            8 => Error::Corrupt(text),
            _ => Error::Other(text),
        }
    }
}
