#![allow(clippy::unwrap_used)]

use super::*;

fn from(variables: &[(&str, &str)]) -> Result<Scheduling, InvalidInput> {
    Scheduling::from_variables(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn nothing_said_is_nothing_asked() {
    assert_eq!(from(&[]).unwrap(), Scheduling::default());
    let empty = from(&[("FAKECLOUD_K8S_NODE_SELECTOR", ""), ("FAKECLOUD_K8S_TOLERATIONS", " ")]);
    assert_eq!(empty.unwrap(), Scheduling::default());
}

#[test]
fn the_higher_level_wins_key_by_key_and_tolerations_add_up() {
    let all = from(&[
        ("FAKECLOUD_K8S_NODE_SELECTOR", "disk=ssd, zone=a"),
        ("FAKECLOUD_ELASTICACHE_K8S_NODE_SELECTOR", "zone=b,"),
        ("FAKECLOUD_K8S_ANNOTATIONS", "example.com/a=1=2,b="),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a","operator":"Exists"}]"#),
        (
            "FAKECLOUD_ELASTICACHE_K8S_TOLERATIONS",
            r#"[{"key":"a","operator":"Exists"},
                {"key":"b","value":"c","effect":"NoExecute","tolerationSeconds":5}]"#,
        ),
    ])
    .unwrap();
    assert_eq!(all.node_selector, map(&[("disk", "ssd"), ("zone", "b")]));
    assert_eq!(all.annotations, map(&[("example.com/a", "1=2"), ("b", "")]));
    let keys: Vec<_> = all.tolerations.iter().map(|toleration| toleration.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["a", "b"], "each once");
    assert_eq!(all.tolerations[1].toleration_seconds, Some(5));
}

#[test]
fn a_bad_value_is_named_with_its_variable_and_what_is_wrong() {
    for (variable, value, words) in [
        ("FAKECLOUD_K8S_NODE_SELECTOR", "disk", "`key=value`"),
        ("FAKECLOUD_K8S_NODE_SELECTOR", "disk=a b", "\"a b\""),
        ("FAKECLOUD_K8S_NODE_SELECTOR", "=a", "the key \"\""),
        ("FAKECLOUD_K8S_NODE_SELECTOR", "a=1,a=2", "twice"),
        ("FAKECLOUD_ELASTICACHE_K8S_NODE_SELECTOR", "a/b/c=1", "a/b/c"),
        ("FAKECLOUD_K8S_ANNOTATIONS", "a b=1", "\"a b\""),
        ("FAKECLOUD_ELASTICACHE_K8S_ANNOTATIONS", "x", "`key=value`"),
        ("FAKECLOUD_K8S_TOLERATIONS", "a=b", "JSON array"),
        ("FAKECLOUD_K8S_TOLERATIONS", "{}", "JSON array"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"kee":"a"}]"#, "kee"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"value":"a"}]"#, "without a key"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a","operator":"In"}]"#, "\"In\""),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a","operator":"Exists","value":"b"}]"#, "Exists"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a","effect":"Never"}]"#, "\"Never\""),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a","tolerationSeconds":1}]"#, "NoExecute"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"key":"a b"}]"#, "\"a b\""),
    ] {
        let said = from(&[(variable, value)]).unwrap_err();
        assert_eq!(said.field, variable);
        assert!(said.reason.contains(words), "{variable}={value}: {said}");
    }
}

#[test]
fn annotations_are_bounded_all_together() {
    let half = "x".repeat(ANNOTATION_BYTES / 2);
    let one = [("FAKECLOUD_K8S_ANNOTATIONS", format!("a={half}"))];
    assert!(from(&[(one[0].0, &one[0].1)]).is_ok());
    let said = from(&[
        ("FAKECLOUD_K8S_ANNOTATIONS", &format!("a={half}")),
        ("FAKECLOUD_ELASTICACHE_K8S_ANNOTATIONS", &format!("b={half}")),
    ]);
    assert_eq!(said.unwrap_err().field, "FAKECLOUD_ELASTICACHE_K8S_ANNOTATIONS");
}

#[test]
fn tags_lie_over_the_environment() {
    let environment = from(&[
        ("FAKECLOUD_K8S_NODE_SELECTOR", "disk=ssd,zone=a"),
        ("FAKECLOUD_K8S_TOLERATIONS", r#"[{"operator":"Exists"}]"#),
    ])
    .unwrap();
    let tags = map(&[
        ("fakecloud-k8s/node-selector", "zone=b"),
        ("fakecloud-k8s/tolerations", r#"[{"key":"a"}]"#),
        ("fakecloud-k8s/annotations", "n=1"),
        ("team", "not, one = of ours"),
    ]);
    let (all, warnings) = environment.with_tags(&tags);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(all.node_selector, map(&[("disk", "ssd"), ("zone", "b")]));
    assert_eq!((all.tolerations.len(), all.annotations), (2, map(&[("n", "1")])));
}

#[test]
fn a_bad_tag_is_warned_about_and_ignored_as_a_whole() {
    let environment = from(&[("FAKECLOUD_K8S_NODE_SELECTOR", "zone=a")]).unwrap();
    let tags = map(&[
        ("fakecloud-k8s/node-selector", "zone=b,disk=a b"),
        ("fakecloud-k8s/tolerations", "x"),
        ("fakecloud-k8s/annotations", "n=1"),
    ]);
    let (all, warnings) = environment.with_tags(&tags);
    assert_eq!(all.node_selector, map(&[("zone", "a")]));
    assert_eq!((all.tolerations.len(), all.annotations), (0, map(&[("n", "1")])));
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("the tag fakecloud-k8s/node-selector is ignored: it has the value"));
    assert!(warnings[1].starts_with("the tag fakecloud-k8s/tolerations is ignored: it is not a JSON array"));
}

#[test]
fn a_manifest_s_table_is_checked_too() {
    let read = |text: &str| toml::from_str::<Scheduling>(text);
    let all = read("node-selector = { zone = \"a\" }\ntolerations = [{ operator = \"Exists\" }]\n").unwrap();
    assert_eq!(all.node_selector, map(&[("zone", "a")]));
    for (text, words) in [
        ("node-selector = { zone = \"a b\" }", "node-selector has the value"),
        ("tolerations = [{ effect = \"NoSchedule\" }]", "tolerations has a toleration without a key"),
        ("annotations = { \"a b\" = \"\" }", "annotations has the key"),
        ("nodeselector = {}", "nodeselector"),
    ] {
        let said = read(text).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    let over = read("node-selector = { zone = \"b\" }").unwrap();
    assert_eq!(all.overlaid(&over).node_selector, map(&[("zone", "b")]));
}
