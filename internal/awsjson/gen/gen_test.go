package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTableIsTheModels makes the table anew from the botocore of this machine and
// compares it, member by member, byte by byte. Without botocore, or with another
// version of the model, only the committed counts are held (by awsjson's tests).
func TestTableIsTheModels(t *testing.T) {
	path, err := findModel()
	if err != nil {
		t.Skipf("no botocore here, the table is not compared with the model: %v", err)
	}
	raw, err := readModel(path)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile("../model_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	made, err := generate(raw)
	if err != nil {
		t.Fatalf("the generator does not understand %s: %v", path, err)
	}
	if !bytes.Contains(committed, []byte(fingerprint(raw))) {
		t.Skipf("%s is another version of the model than the table was made from: run go generate ./internal/awsjson", path)
	}
	if !bytes.Equal(made, committed) {
		t.Error("model_gen.go is not what the generator makes: run go generate ./internal/awsjson")
	}
	var whole struct {
		Operations map[string]any
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	for name := range whole.Operations {
		if !bytes.Contains(committed, []byte(`{"`+name+`", `)) {
			t.Errorf("operation %s is missing", name)
		}
	}
	if len(whole.Operations) != 146 {
		t.Errorf("the model has %d operations, want 146", len(whole.Operations))
	}
}

func TestGenerateRefuses(t *testing.T) {
	for says, raw := range map[string]string{
		"parse model":           `[]`,
		"no input":              `{"operations":{"A":{}}}`,
		"shape X: unknown":      `{"operations":{"A":{"input":{"shape":"X"}}}}`,
		"add a translation":     `{"operations":{"A":{"input":{"shape":"X"}}},"shapes":{"X":{"type":"string","pattern":"(?=a)b"}}}`,
		"another name on the w": `{"operations":{"A":{"input":{"shape":"X"}}},"shapes":{"X":{"type":"structure","members":{"M":{"shape":"X","locationName":"m"}}}}}`,
	} {
		if _, err := generate([]byte(raw)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
	}
}

// TestTranslationsAreNeeded keeps the list of exceptions short.
func TestTranslationsAreNeeded(t *testing.T) {
	for pattern := range translations {
		if _, err := regexp.Compile(pattern); err == nil {
			t.Errorf("%q needs no translation", pattern)
		}
	}
}
