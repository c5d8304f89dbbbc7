//! SARIF and JUnit have the shape that their schemas require.

use netwatch::format::check::CheckFormat;

use crate::formats::{POLICY, hostile, violating, written};
use crate::tool::{PYTHON, has, python};

/// Validates JSON on standard input against a schema.
const VALIDATE: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
jsonschema.validate(json.load(sys.stdin), schema)
";

fn documents(format: CheckFormat) -> Vec<String> {
    let texts = [(violating(), POLICY), (hostile(), POLICY), (violating(), "[[allow]]\naddress = \"::/0\"\n")];
    texts.iter().map(|(run, rules)| written(run, rules, format)).collect()
}

#[test]
fn sarif_matches_the_schema() {
    if !has("python3-jsonschema", &[PYTHON, "-c", "import jsonschema"]) {
        return;
    }
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/sarif.schema.json");
    for text in documents(CheckFormat::Sarif) {
        python(VALIDATE, &[schema], &text).assert_ok(&text);
        let wrong = text.replace("\"startLine\":", "\"start_line\":");
        assert!(!python(VALIDATE, &[schema], &wrong).ok, "the schema rejects a wrong document");
    }
}

/// Validates JUnit XML on standard input: the elements and attributes of the schema that CI systems
/// use, and the counts of the results.
const JUNIT: &str = "
import sys, xml.etree.ElementTree as tree
ATTRIBUTES = {
    'testsuites': ({'name', 'tests', 'failures', 'errors', 'time'}, set()),
    'testsuite': ({'name', 'tests', 'failures', 'errors', 'skipped', 'time', 'timestamp'}, set()),
    'testcase': ({'classname', 'name', 'time'}, set()),
    'failure': ({'message', 'type'}, set()),
    'error': ({'message', 'type'}, set()),
    'skipped': ({'message'}, set()),
}
CHILDREN = {'testsuites': {'testsuite'}, 'testsuite': {'testcase'}, 'testcase': {'failure', 'error', 'skipped'}}
root = tree.fromstring(sys.stdin.buffer.read())
assert root.tag == 'testsuites', root.tag
for element in root.iter():
    required, optional = ATTRIBUTES[element.tag]
    assert required <= set(element.attrib) <= required | optional, element.attrib
    assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
    assert element.tag != 'testcase' or len(element) <= 1
for suite in root:
    cases = list(suite)
    assert int(suite.get('tests')) == len(cases)
    for attribute, tag in (('failures', 'failure'), ('errors', 'error'), ('skipped', 'skipped')):
        assert int(suite.get(attribute)) == sum(1 for case in cases for child in case if child.tag == tag), attribute
    float(suite.get('time'))
    import datetime
    datetime.datetime.strptime(suite.get('timestamp'), '%Y-%m-%dT%H:%M:%S')
";

#[test]
fn junit_has_the_elements_and_counts_of_its_schema() {
    if !has("python3", &[PYTHON, "-c", "import xml.etree.ElementTree"]) {
        return;
    }
    for text in documents(CheckFormat::Junit) {
        python(JUNIT, &[], &text).assert_ok(&text);
        assert!(!python(JUNIT, &[], &text.replace("failures=\"", "failed=\"")).ok, "a wrong document is rejected");
    }
}
