package api

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

const (
	// shareAll is every account.
	shareAll = "all"
	// maxShares is Systems Manager's quota of accounts for a document.
	maxShares = 1000
)

func shareNames(shares []raftstore.DocumentShare) string {
	names := make([]string, 0, len(shares))
	for _, s := range shares {
		names = append(names, s.AccountID)
	}
	return strings.Join(names, ", ")
}

// changeShares returns the shares after a request. What is to be removed goes,
// also when it is to be added; an account that is added again gets the new version.
func changeShares(shares []raftstore.DocumentShare, add, remove []string, version string) []raftstore.DocumentShare {
	var out []raftstore.DocumentShare
	for _, s := range shares {
		if !containsAccount(add, s.AccountID) && !containsAccount(remove, s.AccountID) {
			out = append(out, s)
		}
	}
	for _, account := range add {
		account = strings.ToLower(account)
		taken := slices.ContainsFunc(out, func(s raftstore.DocumentShare) bool { return s.AccountID == account })
		if !taken && !containsAccount(remove, account) {
			out = append(out, raftstore.DocumentShare{AccountID: account, Version: version})
		}
	}
	slices.SortFunc(out, func(a, b raftstore.DocumentShare) int { return strings.Compare(a.AccountID, b.AccountID) })
	return out
}

func containsAccount(accounts []string, account string) bool {
	return slices.ContainsFunc(accounts, func(a string) bool { return strings.EqualFold(a, account) })
}

// modifyDocumentPermission records accounts. There is one account in a mesh, so
// nobody else comes to see the document.
func (c *call) modifyDocumentPermission(in *ssm.ModifyDocumentPermissionInput) (*ssm.ModifyDocumentPermissionOutput, error) {
	if len(in.AccountIdsToAdd) == 0 && len(in.AccountIdsToRemove) == 0 {
		return nil, refuse(codeValidation, "Give AccountIdsToAdd or AccountIdsToRemove.")
	}
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(aws.ToString(in.Name), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	version := aws.ToString(in.SharedDocumentVersion)
	if version == "" {
		version = versionDefault
	}
	shares := changeShares(head.Shares, in.AccountIdsToAdd, in.AccountIdsToRemove, version)
	if len(shares) > maxShares {
		return nil, refuse("DocumentPermissionLimit", "The document %s can be shared with %d accounts at most; this would make %d.", head.Name, maxShares, len(shares))
	}
	if !slices.Equal(shares, head.Shares) {
		head.Shares = shares
		c.txn.PutDocument(head)
		c.resource = head.Name
	}
	return &ssm.ModifyDocumentPermissionOutput{}, nil
}

func (c *call) describeDocumentPermission(in *ssm.DescribeDocumentPermissionInput) (*ssm.DescribeDocumentPermissionOutput, error) {
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(aws.ToString(in.Name), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeDocumentPermissionOutput{AccountIds: []string{}, AccountSharingInfoList: []types.AccountSharingInfo{}}
	for _, s := range head.Shares {
		if s.AccountID < start {
			continue
		}
		if len(out.AccountIds) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, s.AccountID)
			return out, err
		}
		out.AccountIds = append(out.AccountIds, s.AccountID)
		out.AccountSharingInfoList = append(out.AccountSharingInfoList, types.AccountSharingInfo{AccountId: aws.String(s.AccountID), SharedDocumentVersion: aws.String(s.Version)})
	}
	return out, nil
}
