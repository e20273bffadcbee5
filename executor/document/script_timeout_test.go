package document

import (
	"encoding/json"
	"testing"
	"time"
)

func TestScriptTimeout(t *testing.T) {
	for _, c := range []struct {
		input any
		want  int
	}{
		{nil, 3600}, {"", 3600}, {"x", 3600}, {"4", 3600}, {"4.99", 3600}, {"5", 5}, {"5.9", 5}, {" 60 ", 60}, {float64(7), 7}, {7, 7},
		{"172800", 172800}, {"172801", 3600}, {"NaN", 3600}, {"Inf", 3600}, {-1.0, 3600}, {json.Number("90"), 90}, {[]any{}, 3600},
	} {
		if got := ScriptTimeout(c.input); got != time.Duration(c.want)*time.Second {
			t.Errorf("timeoutSeconds %v: %s", c.input, got)
		}
	}
}

// Each of a list of properties has its own time.
func TestExecutionTimeoutOfAList(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":[
		{"runCommand":["a"],"timeoutSeconds":"60"},{"runCommand":["b"],"timeoutSeconds":30},{"runCommand":["c"]}]}}}`)
	if got := ExecutionTimeout(d, nil); got != 3690*time.Second {
		t.Errorf("%s", got)
	}
}
