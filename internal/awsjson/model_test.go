package awsjson

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestModelCounts holds the size of the table: nothing of the model got lost.
// gen's own test compares it with the model, where that is on the machine.
func TestModelCounts(t *testing.T) {
	names := Operations()
	if len(names) != 146 || !slices.IsSorted(names) {
		t.Errorf("%d operations, want 146, sorted", len(names))
	}
	members := 0
	for _, s := range shapes {
		members += len(s.members)
	}
	if len(shapes) != 651 || members != 877 || modelMembers != 877 {
		t.Errorf("%d shapes with %d (%d) members, want 651 with 877", len(shapes), members, modelMembers)
	}
	for _, o := range operations {
		if s, ok := inputOf(o.name); !ok || s.kind != structure {
			t.Errorf("the input of %s is not a structure", o.name)
		}
	}
}

func TestPatterns(t *testing.T) {
	if len(patterns) < 40 {
		t.Errorf("%d patterns", len(patterns))
	}
	at := map[string]int{}
	for i, p := range patterns {
		if _, err := p.compile(); err != nil {
			t.Errorf("%q: %v", p.source, err)
		}
		at[p.source] = i
	}
	const bucket = `^https:\/\/[-a-zA-Z0-9@:%._\+~#=]{1,253}\.s3(\.[a-z\d-]{9,16})?\.amazonaws\.com\/.{1,2000}`
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{`^(?!\s*$).+`, []string{"a", " a ", "\ta"}, []string{"", " ", "\t ", "a\nb"}},
		{`^.{1,100000}$`, []string{"a", " "}, []string{"", "a\n"}},
		{bucket, []string{"https://b.s3.amazonaws.com/k", "https://b.s3.eu-central-1.amazonaws.com/k"},
			[]string{"http://b.s3.amazonaws.com/k", "https://b.s3.amazonaws.com/", "https://b.s3.amazonaws.com/" + string(make([]byte, 2001))}},
		{`(^i-(\w{8}|\w{17})$)|(^mi-\w{17}$)`, []string{"i-01234567", "mi-0123456789abcdef0"}, []string{"i-1", "mi-01234567", "xi-01234567"}},
		{`^([1-9][0-9]*|[0]|[1-9][0-9]%|[0-9]%|100%)$`, []string{"0", "10", "100%", "0%"}, []string{"-1", "101%", "1 ", "01"}},
	} {
		i, ok := at[c.pattern]
		if !ok {
			t.Errorf("no pattern %q", c.pattern)
			continue
		}
		for _, s := range c.yes {
			if !matches(i, s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if matches(i, s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
}

// TestTableFitsSDK walks the table and the SDK's structs together: they have the
// same members, of the same types, but for what the SDK's newer model has.
func TestTableFitsSDK(t *testing.T) {
	newer := []string{"DeleteResourcePolicy.DeletionMode"}
	client := newClient(&wire{})
	for _, operation := range Operations() {
		_, inputType, _ := method(t, client, operation)
		s, _ := inputOf(operation)
		compare(t, operation, s, inputType, newer, 0)
	}
}

func compare(t *testing.T, path string, s *shape, goType reflect.Type, newer []string, depth int) {
	t.Helper()
	if depth > 12 {
		return
	}
	if goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	next := func(name string, at int, goType reflect.Type) {
		t.Helper()
		compare(t, path+"."+name, &shapes[at], goType, newer, depth+1)
	}
	fits := false
	switch s.kind {
	case structure:
		cases, isUnion := unions[goType]
		if fits = isUnion == s.union; !fits {
			break
		}
		if isUnion {
			if len(cases) != len(s.members) {
				t.Errorf("%s: %d of %d members of the union", path, len(cases), len(s.members))
			}
			for _, m := range s.members {
				value, _ := cases[m.name].FieldByName("Value")
				next(m.name, m.shape, value.Type)
			}
			return
		}
		l := layoutOf(goType)
		if fits = l != nil; !fits {
			break
		}
		for _, m := range s.members {
			i, ok := l.index[m.name]
			if !ok {
				t.Errorf("%s: the SDK has no %s", path, m.name)
				continue
			}
			next(m.name, m.shape, goType.Field(l.fields[i].at).Type)
		}
		for _, f := range l.fields {
			if s.member(f.name) < 0 && !slices.Contains(newer, path+"."+f.name) {
				t.Errorf("%s: the table has no %s", path, f.name)
			}
		}
	case list:
		if fits = goType.Kind() == reflect.Slice; fits {
			next("member", s.value, goType.Elem())
		}
	case mapping:
		if fits = goType.Kind() == reflect.Map && goType.Key().Kind() == reflect.String; fits {
			next("value", s.value, goType.Elem())
		}
	case text:
		fits = goType.Kind() == reflect.String
	case boolean:
		fits = goType.Kind() == reflect.Bool
	case integer:
		fits = goType.Kind() == reflect.Int32
	case long:
		fits = goType.Kind() == reflect.Int64
	case timestamp:
		fits = goType == reflect.TypeFor[time.Time]()
	case blob:
		fits = goType == reflect.TypeFor[[]byte]()
	}
	if !fits {
		t.Errorf("%s: %v is not what the table has", path, goType)
	}
}
