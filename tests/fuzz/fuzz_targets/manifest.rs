//! A manifest and its signature file, as anybody may have put them into a store: the first line is the signature file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::plan_findings;
use lifeboat::domain::ids::{BackupId, PolicyName};
use lifeboat::seal::{TrustedSigners, manifest_findings, read_manifest};

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (signature, bytes) = data.split_at(at);
    let (Ok(policy), Ok(backup)) = ("orders".parse::<PolicyName>(), "20260131T030000Z-00000001".parse::<BackupId>())
    else {
        panic!("these are names");
    };
    let signature = (!signature.is_empty()).then_some(signature);
    let Ok(sealed) = read_manifest(bytes, signature, &policy, &backup, &TrustedSigners::default()) else { return };
    // Nobody is trusted here, and nothing the fuzzer makes is signed.
    assert!(!sealed.signer_trusted);
    assert!(signature.is_some() || !sealed.findings.is_empty(), "a manifest without a signature must be a finding");
    let manifest = &sealed.manifest;
    let shape = manifest_findings(manifest, &manifest.policy, &manifest.backup);
    assert!(shape.len() <= 100);
    let _ = (manifest.plain_bytes(), manifest.sealed_bytes(), plan_findings(manifest));
    // What was read is what is written again: no second reading of the same bytes.
    let again = serde_json::to_vec(manifest).expect("a manifest is JSON");
    assert_eq!(
        &serde_json::from_slice::<lifeboat::domain::artifact::Manifest>(&again).expect("it was just written"),
        manifest
    );
});
