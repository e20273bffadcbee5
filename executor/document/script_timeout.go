package document

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits of the input timeoutSeconds; what is outside them counts as the default.
const (
	minScriptTimeout     = 5
	maxScriptTimeout     = 172800
	defaultScriptTimeout = 3600
)

// ScriptTimeout reads timeoutSeconds: a number or its text, fractions cut off;
// anything else than 5 to 172800 is the default, silently, as SSM has it.
func ScriptTimeout(input any) time.Duration {
	seconds := math.NaN()
	switch v := input.(type) {
	case float64:
		seconds = v
	case int:
		seconds = float64(v)
	case int64:
		seconds = float64(v)
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			seconds = f
		}
	case interface{ Float64() (float64, error) }: // json.Number
		if f, err := v.Float64(); err == nil {
			seconds = f
		}
	}
	seconds = math.Trunc(seconds)
	if !(seconds >= minScriptTimeout && seconds <= maxScriptTimeout) {
		seconds = defaultScriptTimeout
	}
	return time.Duration(seconds) * time.Second
}

// ExecutionTimeout is the longest that all steps of a command with the parameters
// may take, one after another. Parameters that do not fit count as not given.
func ExecutionTimeout(d *Document, given map[string][]string) time.Duration {
	return executionTimeout(d.Steps, d.values(given))
}

func executionTimeout(steps []Step, values map[string]any) time.Duration {
	total := time.Duration(0)
	for i := range steps {
		step := &steps[i]
		if len(step.entries) > 0 {
			total += executionTimeout(step.entries, values)
			continue
		}
		switch step.Action {
		case "aws:runShellScript", "aws:runPowerShellScript", "aws:psModule":
			inputs, _ := step.Inputs.(map[string]any)
			if text, ok := step.Inputs.(string); ok { // properties of schema 1.2 as text
				parsed, _ := parseText(textOf((&interpolation{values: values}).text(text)))
				inputs, _ = plugins[step.Action].canonical(parsed).(map[string]any)
			}
			total += ScriptTimeout((&interpolation{values: values}).replace(inputs["timeoutSeconds"]))
		default:
			total += maxScriptTimeout * time.Second
		}
	}
	return total
}
