//! Files: what is written is read back, and no bytes make a reader panic.

use crate::strategy::{observation, profile};
use proptest::prelude::*;
use seccast_model::check::Policy;
use seccast_model::parse::moby::MobyProfile;
use seccast_model::report::Reasons;
use seccast_model::{Merged, Observation, Profile, check};

/// A valid file with some bytes changed: reaches further than random bytes.
fn damaged(text: String, damage: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    for (at, byte) in damage {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_observation_survives_its_file(observation in observation()) {
        let json = observation.to_json();
        let read = Observation::from_json(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &observation);
        prop_assert_eq!(read.to_json(), json);
    }

    #[test]
    fn a_profile_survives_its_file(profile in profile()) {
        let json = profile.to_oci_json();
        let read = Profile::from_oci_json(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &profile);
        prop_assert_eq!(read.to_oci_json(), json);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check::Policy::from_yaml(&bytes);
        let _ = Reasons::from_json(&bytes);
        let _ = Observation::from_json(&bytes);
        let _ = Merged::from_json(&bytes);
        let _ = Profile::from_oci_json(&bytes);
        let _ = MobyProfile::from_json(&bytes);
    }

    #[test]
    fn no_damage_makes_the_policy_reader_panic(
        cut in 0..=100_usize,
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let text = "never_allow: [ptrace, 'bpf']\nsubset_of:\n  engine: docker\n  except:\n  - clone3 # why\nmax_names: 120\n";
        let bytes = damaged(text.to_owned(), &damage);
        let _ = check::Policy::from_yaml(&bytes[..bytes.len() * cut / 100]);
    }

    #[test]
    fn no_damage_makes_a_reader_panic(
        observation in observation(),
        profile in profile(),
        cut in 0..100_usize,
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..3),
    ) {
        let merged = Merged::of(observation.clone()).unwrap();
        for text in [observation.to_json(), merged.to_json(), profile.to_oci_json()] {
            let bytes = damaged(text, &damage);
            let bytes = &bytes[..bytes.len() * cut / 100];
            let _ = Observation::from_json(bytes);
            let _ = Merged::from_json(bytes);
            let _ = Profile::from_oci_json(bytes);
            let _ = MobyProfile::from_json(bytes);
        }
    }

    #[test]
    fn a_cut_file_is_an_error(observation in observation(), cut in 0..100_usize) {
        let json = observation.to_json();
        prop_assert!(Observation::from_json(&json.as_bytes()[..json.len() * cut / 100]).is_err());
    }
}

/// The fuzzers of `tests/fuzz` begin with files that are read, each by its own reader.
#[test]
fn the_corpus_of_the_fuzzers_is_good() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");
    let mut targets = 0;
    for folder in std::fs::read_dir(corpus).unwrap() {
        let folder = folder.unwrap();
        // Manifests: seccast-kube's, whose tests hold them.
        if folder.file_name() == "attach" {
            continue;
        }
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let error = match folder.file_name().to_str().unwrap() {
                "observation" => Observation::from_json(&bytes).err().map(|e| e.to_string()),
                "merged" => Merged::from_json(&bytes).err().map(|e| e.to_string()),
                "profile" | "filter" | "check" => {
                    Profile::from_oci_json(&bytes).err().map(|e| e.to_string())
                }
                "moby" => MobyProfile::from_json(&bytes).err().map(|e| e.to_string()),
                "policy" => Policy::from_yaml(&bytes).err().map(|e| e.to_string()),
                other => panic!("no reader for the corpus of {other}"),
            };
            assert_eq!(error, None, "{}", path.display());
        }
        targets += 1;
    }
    assert_eq!(targets, 7);
}
