package executor

import (
	"slices"
	"strconv"
	"strings"
)

// Facts are what scripts are told of their node, in SSM's variables.
type Facts struct {
	NodeID          string // AWS_SSM_INSTANCE_ID
	Region          string // AWS_SSM_REGION_NAME
	PlatformName    string // AWS_SSM_PLATFORM_NAME
	PlatformVersion string // AWS_SSM_PLATFORM_VERSION
}

// notForScripts are variables of systemd that speak to meshd alone: a script
// that had them could report meshd as ready, or stopping.
var notForScripts = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "SYSTEMD_EXEC_PID"}

// rebootsVariable begins the variable that tells a script how many boots of the
// machine its step has asked for and had: 0 in its first run.
const rebootsVariable = "MESHD_REBOOTS="

// unsuccessfulVariable begins the variable that tells a script how many steps
// before its own have ended otherwise than with success.
const unsuccessfulVariable = "MESHD_UNSUCCESSFUL_STEPS="

// stepEnvironment is what a step's scripts are told of the steps before, behind
// what the document gives them.
func stepEnvironment(given []string, before []StepResult, reboots int) []string {
	unsuccessful := 0
	for _, result := range before {
		if result.Status != statusSuccess {
			unsuccessful++
		}
	}
	return append(slices.Clone(given), rebootsVariable+strconv.Itoa(reboots), unsuccessfulVariable+strconv.Itoa(unsuccessful))
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// scriptEnvironment is meshd's own environment, then that of the step, then
// SSM's variables, which therefore win. Each name comes once.
func scriptEnvironment(own, step []string, jobID string, facts Facts) []string {
	all := append(slices.Clone(own), step...)
	all = append(all,
		"AWS_SSM_INSTANCE_ID="+facts.NodeID,
		"AWS_SSM_REGION_NAME="+facts.Region,
		"AWS_SSM_PLATFORM_NAME="+facts.PlatformName,
		"AWS_SSM_PLATFORM_VERSION="+facts.PlatformVersion,
		"SSM_COMMAND_ID="+jobID,
	)
	at := make(map[string]int)
	env := make([]string, 0, len(all)+1)
	for _, entry := range all {
		name, _, ok := strings.Cut(entry, "=")
		if !ok || name == "" || strings.ContainsRune(entry, 0) || slices.Contains(notForScripts, name) {
			continue
		}
		if i, seen := at[name]; seen {
			env[i] = entry
			continue
		}
		at[name] = len(env)
		env = append(env, entry)
	}
	if _, seen := at["PATH"]; !seen {
		env = append(env, "PATH="+defaultPath)
	}
	return env
}
