package document

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// seeds are the documents in testdata and the built-in ones.
func seeds(f *testing.F) map[string][]byte {
	f.Helper()
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	contents := make(map[string][]byte)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.IsDir() {
			continue
		}
		if contents[file], err = os.ReadFile(file); err != nil {
			f.Fatal(err)
		}
	}
	for _, b := range BuiltIns() {
		contents[b.Name] = b.Content
	}
	return contents
}

func FuzzValidate(f *testing.F) {
	for _, content := range seeds(f) {
		for i := range Types {
			f.Add(content, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, docType uint8) {
		for _, format := range []Format{JSON, YAML, TEXT} {
			s, err := Validate(content, format, Types[int(docType)%len(Types)])
			var refusal *Error
			switch {
			case err == nil && s == nil, err != nil && s != nil:
				t.Fatalf("a summary and a refusal: %v", err)
			case err != nil && (!errors.As(err, &refusal) || refusal.Code == "" || refusal.Message == "" || refusal.Line < 0 || refusal.Column < 0):
				t.Fatalf("a refusal without a sentence: %#v", err)
			}
		}
	})
}

func FuzzConvert(f *testing.F) {
	for _, content := range seeds(f) {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, way := range [][2]Format{{JSON, YAML}, {YAML, JSON}} {
			before, err := parse(content, way[0])
			if err != nil {
				continue
			}
			converted, err := Convert(content, way[0], way[1])
			if err != nil || len(converted) > maxSize {
				continue
			}
			after, err := parse(converted, way[1])
			if err != nil || !reflect.DeepEqual(before.value(), after.value()) {
				t.Fatalf("%s to %s: %v\n%s", way[0], way[1], err, converted)
			}
		}
	})
}

func FuzzInterpolate(f *testing.F) {
	f.Add("echo {{ a }} {{b}} {{ ssm:x }} $$", "{{ b }}", "$$x")
	f.Add("{{a}}", "[1]", "")
	f.Fuzz(func(t *testing.T, text, a, b string) {
		r := &interpolation{values: map[string]any{"a": a, "b": []any{b}}}
		if _, isList := r.text(text).([]any); isList && wholeReference.FindStringSubmatch(text) == nil {
			t.Fatalf("%q became a list", text)
		}
	})
}

// values draws what a document may hold.
func drawNode(t *rapid.T, depth int) *node {
	text := rapid.StringOf(rapid.SampledFrom([]rune("ab1 \n\t:#-{}[]'\"\\<&*!%é\u2028\u0085|>~,?=0.")))
	switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
	case kind == 0:
		return &node{kind: 'n'}
	case kind == 1:
		return &node{kind: 't'}
	case kind == 2:
		return &node{kind: '0', text: rapid.SampledFrom([]string{"0", "-1", "1.50", "1e3", "-0.0", "12345678901234567890123", "2E-7"}).Draw(t, "number")}
	case kind == 3 && depth > 0:
		list := &node{kind: '['}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list.items = append(list.items, drawNode(t, depth-1))
		}
		return list
	case kind >= 4 && kind <= 5 && depth > 0:
		object := &node{kind: '{'}
		for _, name := range rapid.SliceOfNDistinct(text, 0, 3, rapid.ID).Draw(t, "names") {
			object.fields = append(object.fields, namedNode{name, drawNode(t, depth-1)})
		}
		return object
	}
	return &node{kind: '"', text: text.Draw(t, "text")}
}

func TestConvertKeepsMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawNode(t, 4)
		json, err := writeJSON(before)
		if err != nil {
			t.Fatal(err)
		}
		yaml, err := Convert(json, JSON, YAML)
		if err != nil {
			t.Fatalf("%v in %s", err, json)
		}
		back, err := Convert(yaml, YAML, JSON)
		if err != nil {
			t.Fatalf("%v in %s", err, yaml)
		}
		after, err := parse(back, JSON)
		if err != nil || !reflect.DeepEqual(before.value(), after.value()) || !reflect.DeepEqual(keys(before), keys(after)) {
			t.Fatalf("%v: %s became %s by %s", err, json, back, yaml)
		}
	})
}
