//! Rows 46 and 47 of the checklist: what patches do.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::apply;
use crate::settings::{PatchKind, PatchSource, PodPatch};

fn patch(kind: PatchKind, text: &str) -> PodPatch {
    PodPatch { name: "mine".into(), kind, source: PatchSource::Text(text.into()) }
}

fn spec() -> Value {
    json!({
        "nodeSelector": { "pool": "ci", "disk": "ssd" },
        "containers": [
            {
                "name": "helper",
                "command": ["agent", "supervise"],
                "volumeMounts": [{ "name": "podwright-plan", "mountPath": "/podwright/plan" }],
            },
            {
                "name": "build",
                "command": ["agent", "serve"],
                "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                "resources": { "limits": { "cpu": "1", "memory": "1Gi" } },
            },
        ],
        "volumes": [
            { "name": "podwright-plan", "secret": { "secretName": "x" } },
            { "name": "repo", "emptyDir": { "medium": "Memory" } },
        ],
        "tolerations": [{ "key": "a" }],
        "hostAliases": [{ "ip": "127.0.0.1", "hostnames": ["db"] }],
    })
}

fn patched(kind: PatchKind, text: &str) -> Result<Value, String> {
    let mut spec = spec();
    apply(&mut spec, &[patch(kind, text)]).map_err(|error| error.to_string())?;
    Ok(spec)
}

#[rstest]
#[case::a_map_is_merged("nodeSelector: {zone: a}", "/nodeSelector/pool", json!("ci"))]
#[case::null_deletes("nodeSelector: {pool: null}", "/nodeSelector", json!({ "disk": "ssd" }))]
#[case::replace_a_map("nodeSelector: {$patch: replace, zone: a}", "/nodeSelector", json!({ "zone": "a" }))]
#[case::delete_a_map("nodeSelector: {$patch: delete}", "/nodeSelector", Value::Null)]
#[case::retain_keys("nodeSelector: {$retainKeys: [disk], disk: hdd}", "/nodeSelector", json!({ "disk": "hdd" }))]
#[case::containers_merge_by_name(
    "containers: [{name: build, tty: true}]", "/containers/1/resources/limits/cpu", json!("1")
)]
#[case::and_get_what_the_patch_says("containers: [{name: build, tty: true}]", "/containers/1/tty", json!(true))]
#[case::new_ones_come_last("containers: [{name: extra, image: x}]", "/containers/2", json!({ "name": "extra", "image": "x" }))]
#[case::env_merges_by_name(
    "containers: [{name: build, env: [{name: B, value: '3'}, {name: C, value: '4'}]}]",
    "/containers/1/env",
    json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "3" }, { "name": "C", "value": "4" }])
)]
#[case::an_entry_is_deleted(
    "containers: [{name: build, env: [{name: A, $patch: delete}]}]",
    "/containers/1/env", json!([{ "name": "B", "value": "2" }])
)]
#[case::an_entry_is_replaced(
    "volumes: [{name: repo, $patch: replace, hostPath: {path: /r}}]",
    "/volumes/1", json!({ "name": "repo", "hostPath": { "path": "/r" } })
)]
#[case::only_some_fields_of_an_entry_are_kept(
    "volumes: [{name: repo, $retainKeys: [name, ephemeral], ephemeral: {x: 1}}]",
    "/volumes/1", json!({ "name": "repo", "ephemeral": { "x": 1 } })
)]
#[case::a_whole_list_is_replaced(
    "containers: [{name: build, env: [{$patch: replace}, {name: Z, value: z}]}]",
    "/containers/1/env", json!([{ "name": "Z", "value": "z" }])
)]
#[case::tolerations_are_replaced("tolerations: [{key: b}]", "/tolerations", json!([{ "key": "b" }]))]
#[case::host_aliases_merge_by_address(
    "hostAliases: [{ip: 127.0.0.1, hostnames: [web]}, {ip: 10.0.0.1, hostnames: [x]}]",
    "/hostAliases/0/hostnames", json!(["web"])
)]
#[case::the_order_is_set(
    "$setElementOrder/containers: [{name: build}, {name: helper}]", "/containers/0/name", json!("build")
)]
#[case::values_of_a_list_go(
    "hostAliases: [{ip: 127.0.0.1, $deleteFromPrimitiveList/hostnames: [db]}]",
    "/hostAliases/0/hostnames", json!([])
)]
#[case::json_is_yaml(r#"{"nodeSelector": {"zone": "a"}}"#, "/nodeSelector/zone", json!("a"))]
#[case::nothing_changes_nothing("", "/nodeSelector/pool", json!("ci"))]
fn k8s_47_strategic_merge(#[case] text: &str, #[case] at: &str, #[case] expected: Value) {
    let spec = patched(PatchKind::Strategic, text).unwrap();
    assert_eq!(spec.pointer(at).cloned().unwrap_or_default(), expected);
}

#[rstest]
#[case("volumes: [{emptyDir: {}}]", "no \"name\"")]
#[case("volumes: {a: b}", "must be a list")]
#[case("nodeSelector: {$patch: remove}", "merge, replace, delete")]
#[case("nodeSelector: {$what: x}", "no directive")]
#[case("[1, 2]", "no object")]
#[case("a: [", "neither YAML nor JSON")]
#[case("containers: [{name: helper, $patch: delete}]", "the command of the container \"helper\"")]
#[case("containers: [{name: build, command: [sh]}]", "the command of the container \"build\"")]
#[case("volumes: [{name: podwright-plan, $patch: delete}]", "\"podwright-plan\"")]
fn k8s_46_a_patch_that_cannot_be_is_refused(#[case] text: &str, #[case] words: &str) {
    let error = patched(PatchKind::Strategic, text).unwrap_err();
    assert!(error.contains(words) && error.contains("pod_spec"), "{error}");
}

#[test]
fn k8s_46_merge_and_json_patches() {
    let spec = patched(PatchKind::Merge, "nodeSelector: {pool: null}\nhostNetwork: true").unwrap();
    assert_eq!(
        (&spec["nodeSelector"], &spec["hostNetwork"]),
        (&json!({ "disk": "ssd" }), &json!(true))
    );
    let text = r#"[{"op": "add", "path": "/containers/1/env/-", "value": {"name": "C"}}]"#;
    let spec = patched(PatchKind::Json, text).unwrap();
    assert_eq!(spec["containers"][1]["env"][2]["name"], "C");
    let error = patched(PatchKind::Json, r#"[{"op": "remove", "path": "/nothing"}]"#).unwrap_err();
    assert!(error.contains("mine"), "{error}");
    assert!(patched(PatchKind::Json, "a: b").unwrap_err().contains("RFC 6902"));
    let error = patched(PatchKind::Merge, "containers: []").unwrap_err();
    assert!(error.contains("which the runner needs"), "{error}");
}

#[test]
fn k8s_46_patches_work_on_what_the_ones_before_left() {
    let mut spec = spec();
    let patches = [
        patch(PatchKind::Strategic, "nodeSelector: {zone: a}"),
        patch(
            PatchKind::Json,
            "[{op: move, from: /nodeSelector/zone, path: /nodeSelector/region}]",
        ),
        patch(PatchKind::Merge, "nodeSelector: {disk: null}"),
    ];
    apply(&mut spec, &patches).unwrap();
    assert_eq!(spec["nodeSelector"], json!({ "pool": "ci", "region": "a" }));
}

proptest! {
    /// Where no list has a key and no directive is used, it is a merge patch.
    #[test]
    fn without_lists_a_strategic_merge_is_a_merge_patch(
        there in proptest::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..4),
        change in proptest::collection::btree_map("[a-c]", proptest::option::of("[x-z]{0,2}"), 0..4),
    ) {
        let patch = json!({ "x": change });
        let mut one = json!({ "x": there });
        let mut other = one.clone();
        super::strategic::merge(&mut one, patch.clone(), super::keys::POD_SPEC).unwrap();
        json_patch::merge(&mut other, &patch);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_patch_of_any_text_does_not_panic(text in "[-$a-z{}\\[\\]:, \n0-9\"']{0,60}") {
        for kind in [PatchKind::Strategic, PatchKind::Merge, PatchKind::Json] {
            let _ = patched(kind, &text);
        }
    }
}
