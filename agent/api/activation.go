package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

const (
	defaultActivationLife = 24 * time.Hour
	maxActivationLife     = 30 * 24 * time.Hour
	maxRegistrations      = 1000
	maxDescription        = 256
	maxDefaultName        = 256

	// maxTokenAddresses is how many addresses a join token names: enough that one
	// answers, few enough for a command line.
	maxTokenAddresses = 5
)

// newActivation checks an activation and adds it to the call's changes. limit 0
// and a nil expires take their defaults. It returns the code, which is shown once.
func (c *call) newActivation(a raftstore.Activation, expires *time.Time) (code string, err error) {
	if a.RegistrationLimit == 0 {
		a.RegistrationLimit = 1
	}
	a.ID, a.CreatedAt, a.ExpiresAt = uuid.NewString(), c.now, c.now.Add(defaultActivationLife)
	if expires != nil {
		a.ExpiresAt = expires.UTC()
	}
	switch {
	case a.RegistrationLimit < 1 || a.RegistrationLimit > maxRegistrations:
		return "", refuse(codeInvalidParameters, "RegistrationLimit is 1 to %d, not %d.", maxRegistrations, a.RegistrationLimit)
	case !a.ExpiresAt.After(c.now):
		return "", refuse(codeInvalidParameters, "ExpirationDate must be in the future.")
	case a.ExpiresAt.After(c.now.Add(maxActivationLife + time.Minute)): // a client's clock may be ahead
		return "", refuse(codeInvalidParameters, "ExpirationDate must be within 30 days.")
	case utf8.RuneCountInString(a.Description) > maxDescription:
		return "", refuse(codeValidation, "Description has at most %d characters.", maxDescription)
	case utf8.RuneCountInString(a.DefaultName) > maxDefaultName:
		return "", refuse(codeValidation, "DefaultInstanceName has at most %d characters.", maxDefaultName)
	}
	if err := checkTags(a.Tags); err != nil {
		return "", err
	}
	code = rand.Text() // 26 characters, 130 bits
	a.SealedCode = c.key.Seal([]byte(code), sealActivation+a.ID)
	c.txn.PutActivation(a)
	c.resource = a.ID
	return code, nil
}

func (c *call) createActivation(in *ssm.CreateActivationInput) (*ssm.CreateActivationOutput, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if len(in.RegistrationMetadata) > 0 {
		return nil, refuse(codeInvalidParameters, "The mesh keeps no registration metadata. Leave out RegistrationMetadata.")
	}
	code, err := c.newActivation(raftstore.Activation{
		Description: aws.ToString(in.Description), DefaultName: aws.ToString(in.DefaultInstanceName), IamRole: aws.ToString(in.IamRole),
		RegistrationLimit: int(aws.ToInt32(in.RegistrationLimit)), Tags: tags,
	}, in.ExpirationDate)
	if err != nil {
		return nil, err
	}
	return &ssm.CreateActivationOutput{ActivationId: aws.String(c.resource), ActivationCode: &code}, nil
}

// meshCreateActivation is CreateActivation with what Systems Manager has no word
// for, and with a token that has all a joiner needs.
func (c *call) meshCreateActivation(in *meshapi.CreateActivationInput) (*meshapi.CreateActivationOutput, error) {
	if err := checkTagTexts(in.Tags); err != nil {
		return nil, err
	}
	activation := raftstore.Activation{
		Description: in.Description, DefaultName: in.DefaultInstanceName, RegistrationLimit: in.RegistrationLimit,
		Tags: in.Tags, MemberOnly: in.MemberOnly,
	}
	if in.JoinerTags != nil {
		if len(*in.JoinerTags) > maxTags {
			return nil, refuse(codeTooManyTags, "JoinerTags names at most %d keys.", maxTags)
		}
		activation.JoinerTags = append([]string{}, *in.JoinerTags...)
	}
	code, err := c.newActivation(activation, in.ExpirationDate)
	if err != nil {
		return nil, err
	}
	meshRecord, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCACertificate(meshRecord.CACertificate)
	if err != nil {
		return nil, err
	}
	addresses, err := c.joinAddresses()
	if err != nil {
		return nil, err
	}
	token := pki.JoinToken{ActivationID: c.resource, Code: code, Addresses: addresses, CAFingerprint: pki.CertificateFingerprint(ca)}
	return &meshapi.CreateActivationOutput{ActivationId: c.resource, ActivationCode: code, JoinToken: token.String()}, nil
}

// joinAddresses are the nodes a joiner is to ask: this one, then the other voters
// and stand-bys.
func (c *call) joinAddresses() ([]string, error) {
	roster, err := raftstore.GetRoster(c)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	var addresses []string
	for _, m := range roster.Members {
		if m.NodeID == c.face.cfg.NodeID {
			addresses = slices.Insert(addresses, 0, m.Address)
		} else {
			addresses = append(addresses, m.Address)
		}
	}
	return addresses[:min(len(addresses), maxTokenAddresses)], nil
}

func (c *call) describeActivations(in *ssm.DescribeActivationsInput) (*ssm.DescribeActivationsOutput, error) {
	for _, f := range in.Filters {
		if f.FilterKey == "" || len(f.FilterValues) == 0 {
			return nil, refuse("InvalidFilter", "A filter needs a FilterKey and FilterValues.")
		}
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeActivationsOutput{ActivationList: []types.Activation{}}
	next := ""
	err = raftstore.ScanActivations(c, start, func(a raftstore.Activation) bool {
		if slices.ContainsFunc(in.Filters, func(f types.DescribeActivationsFilter) bool { return !activationMatches(a, f) }) {
			return true
		}
		if len(out.ActivationList) == pageSize(in.MaxResults) {
			next = a.ID
			return false
		}
		out.ActivationList = append(out.ActivationList, types.Activation{
			ActivationId: &a.ID, Description: optional(a.Description), DefaultInstanceName: optional(a.DefaultName), IamRole: optional(a.IamRole),
			RegistrationLimit: aws.Int32(int32(a.RegistrationLimit)), RegistrationsCount: aws.Int32(int32(a.Registrations)),
			CreatedDate: &a.CreatedAt, ExpirationDate: &a.ExpiresAt, Expired: !c.now.Before(a.ExpiresAt), Tags: tagList(a.Tags),
		})
		return true
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func activationMatches(a raftstore.Activation, f types.DescribeActivationsFilter) bool {
	switch f.FilterKey {
	case types.DescribeActivationsFilterKeysActivationIds:
		return slices.Contains(f.FilterValues, a.ID)
	case types.DescribeActivationsFilterKeysDefaultInstanceName:
		return slices.ContainsFunc(f.FilterValues, func(v string) bool { return a.DefaultName != "" && strings.EqualFold(v, a.DefaultName) })
	case types.DescribeActivationsFilterKeysIamRole:
		return slices.Contains(f.FilterValues, a.IamRole)
	}
	return false
}

func (c *call) deleteActivation(in *ssm.DeleteActivationInput) (*ssm.DeleteActivationOutput, error) {
	activation, err := raftstore.GetActivation(c, *in.ActivationId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse("InvalidActivationId", "The activation ID isn't valid: there is no activation %s.", *in.ActivationId)
	}
	if err != nil {
		return nil, err
	}
	c.txn.DeleteActivation(activation)
	c.resource = activation.ID
	return &ssm.DeleteActivationOutput{}, nil
}
