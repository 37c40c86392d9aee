"""Lists of a JSON file, parsed element by element: same values and errors as json.loads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.large_json import LargeJson
from bodyposenet.errors import BodyPoseNetError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "a.json"


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from([None, 1]))
def test_lists_equal_those_of_json_loads(path, content, indent):
    path.write_text(json.dumps(content, indent=indent))
    file = LargeJson(path, "")
    for name, value in content.items():
        assert file.has_list(name) == isinstance(value, list)
        for _ in range(2):
            assert list(file.elements(name)) == (value if isinstance(value, list) else [])


@given(st.text(alphabet='{}[],:"a1 ', max_size=12))
def test_the_same_texts_are_valid_as_for_json_loads(path, text):
    path.write_text(text)
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(BodyPoseNetError, match="not valid JSON"):
            LargeJson(path, "")
    else:
        LargeJson(path, "")


def test_the_last_value_of_a_repeated_name_counts(path):
    path.write_text('{"a": [1], "b": [2], "a": [3], "b": 4}')
    file = LargeJson(path, "")
    assert list(file.elements("a")) == [3]
    assert not file.has_list("b")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings(path, encoding):
    path.write_bytes('{"a": ["é"]}'.encode(encoding))
    assert list(LargeJson(path, "").elements("a")) == ["é"]


def test_errors_have_the_line_and_the_remedy(path):
    path.write_text('{"a": [1,\n2 3]}')
    with pytest.raises(BodyPoseNetError, match=r"a\.json:2: not valid JSON") as caught:
        LargeJson(path, "Correct it.")
    assert caught.value.remedy == "Correct it."
