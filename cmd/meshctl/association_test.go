package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

const motd = "6f1e2d3c-4b5a-4697-8877-665544332211"

// oneAssociation is a mesh that has the association motd.
func oneAssociation(t *testing.T) *fakeMesh {
	m := threeNodes(t)
	targets := []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}}
	overview := &types.AssociationOverview{Status: aws.String("Failed"), DetailedStatus: aws.String("Failed"), AssociationStatusAggregatedCount: map[string]int32{"Success": 2, "Failed": 1}}
	m.always("ListAssociations", &ssm.ListAssociationsOutput{Associations: []types.Association{{
		AssociationId: aws.String(motd), AssociationName: aws.String("motd"), Name: aws.String("AWS-RunShellScript"), Targets: targets,
		ScheduleExpression: aws.String("rate(1 hour)"), Overview: overview, LastExecutionDate: aws.Time(testNow.Add(-time.Minute)),
	}}})
	m.always("DescribeAssociation", &ssm.DescribeAssociationOutput{AssociationDescription: &types.AssociationDescription{
		AssociationId: aws.String(motd), AssociationName: aws.String("motd"), AssociationVersion: aws.String("3"), Name: aws.String("AWS-RunShellScript"),
		DocumentVersion: aws.String("$DEFAULT"), Targets: targets, ScheduleExpression: aws.String("rate(1 hour)"), Overview: overview,
		Parameters: map[string][]string{"commands": {"echo"}}, MaxErrors: aws.String("1"),
	}})
	m.always("Mesh.DescribeAssociationRuns", &meshapi.DescribeAssociationRunsOutput{Now: testNow, Associations: []meshapi.AssociationRuns{{
		AssociationId: motd, NextTime: aws.Time(testNow.Add(59 * time.Minute)),
		Waiting: []meshapi.AssociationWaiting{{NodeId: db1, Since: testNow.Add(-time.Hour), Reason: "the node was away"}},
		Runs:    []meshapi.AssociationRun{{ExecutionId: "run", Cause: "scheduled", ScheduledTime: aws.Time(testNow), Reason: "Skipped: nobody led the mesh"}},
	}}})
	m.always("DescribeAssociationExecutions", &ssm.DescribeAssociationExecutionsOutput{AssociationExecutions: []types.AssociationExecution{{
		ExecutionId: aws.String("run"), AssociationVersion: aws.String("3"), Status: aws.String("Skipped"), CreatedTime: aws.Time(testNow), ResourceCountByStatus: aws.String("{}"),
	}}})
	m.on("UpdateAssociation", func(body []byte) (any, error) {
		var in ssm.UpdateAssociationInput
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		if *in.Name != "AWS-RunShellScript" || *in.MaxErrors != "1" || *in.ScheduleExpression != "rate(2 hours)" || in.Parameters["commands"][0] != "echo" || *in.AssociationVersion != "3" {
			t.Errorf("the update: %s", body)
		}
		return &ssm.UpdateAssociationOutput{AssociationDescription: &types.AssociationDescription{AssociationVersion: aws.String("4")}}, nil
	})
	m.on("CreateAssociation", func(body []byte) (any, error) {
		var in ssm.CreateAssociationInput
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		if in.Targets[0].Values[0] != web1 || !in.ApplyOnlyAtCronInterval || *in.Duration != 2 || in.ComplianceSeverity != "HIGH" {
			t.Errorf("made: %s", body)
		}
		return &ssm.CreateAssociationOutput{AssociationDescription: &types.AssociationDescription{AssociationId: aws.String(motd)}}, nil
	})
	return m
}

func TestAssociation(t *testing.T) {
	t.Parallel()
	m := oneAssociation(t)
	for line, want := range map[string][]string{
		"association list":                                 {"motd", "tag:role=web", "rate(1 hour)", "Failed (1 Failed, 2 Success)"},
		"association show motd":                            {"in 59m 0s", "50 at a time, stops after more than 1 errors", "db-1: the node was away", "commands=echo"},
		"association executions motd":                      {"scheduled", "Skipped: nobody led the mesh"},
		"association update motd --schedule rate(2_hours)": {"version 4"},
	} {
		words := strings.Fields(line)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "_", " ")
		}
		r := m.run(words...)
		if r.code != 0 {
			t.Errorf("meshctl %s: %+v", line, r)
		}
		for _, text := range want {
			if !strings.Contains(r.out+r.err, text) {
				t.Errorf("meshctl %s says no %q:\n%s%s", line, text, r.out, r.err)
			}
		}
	}
	r := m.run("association", "create", "AWS-RunPatchBaseline", "--nodes", "web-1", "--schedule", "cron(0 2 ? * SUN *)", "--only-at-times", "--duration", "2", "--severity", "high", "--parameter", "Operation=Scan")
	if r.code != 0 || strings.TrimSpace(r.out) != motd {
		t.Errorf("create: %+v", r)
	}
	for _, line := range []string{"association create", "association create X", "association create X --targets all --nodes web-1", "association show"} {
		if r := m.run(strings.Fields(line)...); r.code != exitUsage {
			t.Errorf("meshctl %s: %+v", line, r)
		}
	}
}
