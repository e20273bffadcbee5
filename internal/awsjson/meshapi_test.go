package awsjson_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/awsjson"
)

// TestMeshOperations: the codec carries the structs of our own operations too.
func TestMeshOperations(t *testing.T) {
	at := time.UnixMilli(1700000000120).UTC()
	for _, c := range []struct {
		value any
		wire  string
	}{
		{&meshapi.InvocationChange{InstanceId: "mi-1", StartedAt: &at},
			`{"InstanceId":"mi-1","Name":"","Status":"","StatusDetails":"","ResponseCode":0,"StartedAt":1700000000.12,"FirstLine":""}`},
		{&meshapi.CreateActivationInput{ExpirationDate: &at, JoinerTags: &[]string{}, Tags: map[string]string{"b": "2", "a": "1"}},
			`{"ExpirationDate":1700000000.12,"Tags":{"a":"1","b":"2"},"JoinerTags":[]}`},
		{&meshapi.ReadOutputOutput{Data: []byte{0, 255}, NextOffset: 2, Ended: true}, `{"Data":"AP8=","NextOffset":2,"Ended":true}`},
		{&meshapi.StatusOutput{MeshId: "m", Term: 1 << 60, Voters: []string{"a"}, StandBys: []string{}, Advice: []string{}},
			`{"MeshId":"m","Name":"","Leader":"","Term":1152921504606846976,"Voters":["a"],"StandBys":[],"FailureTolerance":0,"Nodes":{"Online":0,"ConnectionLost":0},"Advice":[],"Source":"","AnsweredBy":""}`},
	} {
		data, err := awsjson.Marshal(c.value)
		if err != nil || string(data) != c.wire {
			t.Errorf("got  %s (%v)\nwant %s", data, err, c.wire)
		}
		got := reflect.New(reflect.TypeOf(c.value).Elem()).Interface()
		if err := awsjson.UnmarshalStrict(data, got); err != nil || !reflect.DeepEqual(got, c.value) {
			t.Errorf("read %+v (%v), want %+v", got, err, c.value)
		}
	}
	err := awsjson.UnmarshalStrict([]byte(`{"X":2}`), &meshapi.StatusInput{})
	if err == nil || !strings.Contains(err.Error(), "'/X' is unknown") {
		t.Errorf("an unknown member: %v", err)
	}
	var later meshapi.StatusOutput
	if err := awsjson.Unmarshal([]byte(`{"X":{"Y":[1]},"Leader":"n"}`), &later); err != nil || later.Leader != "n" {
		t.Errorf("a newer answer: %+v, %v", later, err)
	}
}
