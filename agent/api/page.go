package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"fleetmesh/internal/awsjson"
)

// maxToken bounds a page token, in characters.
const maxToken = 2048

// defaultPage is how many entries a page has when the client does not say.
const defaultPage = 50

// pageScope names what a page token is good for: an operation and all that was
// asked besides the page. bound is the input without NextToken and MaxResults.
func pageScope(operation string, bound any) (string, error) {
	data, err := awsjson.Marshal(bound)
	if err != nil {
		return "", fmt.Errorf("encode the input of a page: %w", err)
	}
	sum := sha256.Sum256(data)
	return sealPage + operation + "/" + hex.EncodeToString(sum[:]), nil
}

// nextPage makes the token for the page that begins at position. It is sealed
// with the mesh key, so that every leader reads it and nobody can make one.
func (c *call) nextPage(bound any, position string) (*string, error) {
	if position == "" {
		return nil, nil
	}
	scope, err := pageScope(c.op.name, bound)
	if err != nil {
		return nil, err
	}
	token := base64.RawURLEncoding.EncodeToString(c.key.Seal([]byte(position), scope))
	return &token, nil
}

// pageStart returns where the page of a token begins, "" for the first.
func (c *call) pageStart(bound any, token *string) (string, error) {
	if token == nil || *token == "" {
		return "", nil
	}
	scope, err := pageScope(c.op.name, bound)
	if err != nil {
		return "", err
	}
	if len(*token) <= maxToken {
		if sealed, err := base64.RawURLEncoding.Strict().DecodeString(*token); err == nil {
			if position, err := c.key.Open(sealed, scope); err == nil {
				return string(position), nil
			}
		}
	}
	return "", refuse(codeInvalidNextToken, "The specified token isn't valid: use the one of the page before, with the same filters, and begin anew without one.")
}

// pageSize is MaxResults with its default; the model has checked its bounds.
func pageSize(maxResults *int32) int {
	if maxResults == nil {
		return defaultPage
	}
	return int(*maxResults)
}
