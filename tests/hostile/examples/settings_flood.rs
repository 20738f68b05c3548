//! Asks for its settings without end: they are read without a word to the engine, so nothing but computing time
//! ends it.

use hostile::prelude::*;

struct SettingsFlood;

impl Policy for SettingsFlood {
    fn anywhere() {
        loop {
            black_box(setting("anything"));
        }
    }
}

hostile::policy!(SettingsFlood);
