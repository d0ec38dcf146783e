//! A manifest, compose file or values: what is attached is found again, comes out again, and a second time changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_kube::manifest::{Outcome, Selection, Wanted, change};

/// What one may say of a file; each input is held against all.
fn selections() -> [Selection; 3] {
    let containers = |names: &[&str]| Selection {
        containers: names.iter().map(|name| (*name).to_owned()).collect(),
        values_path: None,
    };
    let values = Selection {
        values_path: Some("a.b".to_owned()),
        ..Selection::default()
    };
    [containers(&[]), containers(&["a", "b"]), values]
}

fuzz_target!(|bytes: &[u8]| {
    let attach = Wanted::Attached("p/q.json".to_owned());
    for selection in selections() {
        let _ = change(bytes, &selection, &Wanted::Detached(None));
        let Ok(attached) = change(bytes, &selection, &attach) else {
            continue;
        };
        let again =
            change(attached.text.as_bytes(), &selection, &attach).expect("it was written so");
        assert_eq!(again.text, attached.text);
        let detached = change(
            attached.text.as_bytes(),
            &selection,
            &Wanted::Detached(None),
        );
        let detached = detached.expect("it was written so");
        let nothing = change(
            detached.text.as_bytes(),
            &selection,
            &Wanted::Detached(None),
        );
        let nothing = nothing.expect("it was written so");
        assert_eq!(nothing.text, detached.text);
        assert!(
            nothing
                .places
                .iter()
                .all(|it| it.outcome == Outcome::Already)
        );
    }
});
