//! The events of a catalog, one on each line: whatever order and content they have, a run can be told from them or not,
//! and an event that was read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::domain::run::Event;
use lifeboat::render;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
        let written = serde_json::to_string(&event).expect("an event is JSON");
        assert_eq!(serde_json::from_str::<Event>(&written).expect("it was just written"), event);
        if let Event::Drilled(transcript) = &event {
            // A report of anything that can be read as a transcript.
            let _ = (render::report::terminal(transcript, 80, true), render::html::page(transcript));
        }
    }
});
