// Verify folders written by "manage.py audit_export --folder", with public keys alone:
// "verify KEYS FOLDER...", where KEYS is a file of public keys, one a line, which you received from
// the site itself. Prints one line for each folder; exits with 1 if one is refused.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"io"
	"os"
	"reflect"
	"strings"
)

// A line of log.jsonl or checkpoints.jsonl. Row is the text that the evidence covers.
type line struct {
	Type, Note, Row, Nonce, Leaf string
	Version, Number              int64
	Seal, Position               *int64
	Path                         [][]string
	Proof                        []string
	Complete                     *bool
	all                          map[string]any
}

// A seal, as its row says; next is the position of the next line under it.
type seal struct {
	Number, Entries, Erasures, next int64
	Root                            string
}

// must stops the check of a folder.
func must(ok bool, reason string, values ...any) {
	if !ok {
		panic(fmt.Errorf(reason, values...))
	}
}

func decode(text string, into any) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	must(decoder.Decode(into) == nil, "can't be read: %s", text)
}

func bytesOf(text string) []byte {
	value, err := hex.DecodeString(text)
	must(err == nil && hex.EncodeToString(value) == text, "not hexadecimal: %q", text)
	return value
}

func hashesOf(texts ...string) []tlog.Hash {
	hashes := make([]tlog.Hash, len(texts))
	for i, text := range texts {
		must(len(text) == 64 && copy(hashes[i][:], bytesOf(text)) == 32, "not a hash: %q", text)
	}
	return hashes
}

func hexHash(text string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

func eachLine(path string, handle func(number int, l line)) {
	file, err := os.Open(path)
	must(err == nil, "%v", err)
	defer file.Close()
	decoder := json.NewDecoder(file)
	for number := 1; decoder.More(); number++ {
		raw, l := json.RawMessage{}, line{}
		must(decoder.Decode(&raw) == nil, "%s, line %d can't be read", path, number)
		decode(string(raw), &l)
		decode(string(raw), &l.all)
		for name := range l.all { // Go reads "Type" as "type", other programs do not
			must(strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == "", "unknown: %q", name)
		}
		handle(number, l)
	}
	_, err = decoder.Token()
	must(err == io.EOF, "%s can't be read to its end", path)
}

// openCheckpoint returns the tree of a signed checkpoint; its origin is the name of the key.
func openCheckpoint(text string, keys note.Verifiers) tlog.Tree {
	opened, err := note.Open([]byte(text), keys)
	must(err == nil, "checkpoint: %v", err)
	_, err = base64.StdEncoding.Strict().DecodeString(opened.Sigs[0].Base64)
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	must(err == nil && origin == opened.Sigs[0].Name, "the checkpoint is of another log or not written canonically")
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest)) // x/mod's own name
	must(err == nil && strings.Count(rest, "\n") == 2, "not a checkpoint")
	return tree
}

// checkSame checks that a line shows the values of its row, which are these.
func checkSame(l line, shown map[string]any, names string) {
	row, same := map[string]any{}, map[string]any{}
	decode(l.Row, &row)
	for _, name := range strings.Fields(names) {
		same[name] = shown[name]
	}
	must(reflect.DeepEqual(row, same), "%s differs from its row", l.Type)
}

// checkEntry checks an entry of version 2 against its leaf, and who acted.
func checkEntry(l line, entry map[string]any) {
	must(len(l.Nonce) == 64 && l.Leaf == hexHash("\x00"+string(bytesOf(l.Nonce))+l.Row), "entry %v differs from its leaf", entry["id"])
	for _, name := range strings.Fields("version activity_id data_subject purpose legal_basis") {
		entry[name] = l.all[name]
	}
	entry["actor"] = l.all["subject"]
	checkSame(l, entry, "version actor action resource_type resource_id timestamp ip_address user_agent details origin activity_id data_subject purpose legal_basis")
	nonce, _ := l.all["actor_nonce"].(string) // of a fixed length, or it could contain a part of the id
	isUsers := len(nonce) == 32 && l.all["subject"] == hexHash(string(bytesOf(nonce))+fmt.Sprint(entry["user_id"]))
	must(isUsers || entry["user_id"] == nil && l.all["actor_nonce"] == nil && (l.all["subject"] == nil) == (l.all["pseudonym"] == ""), "entry %v is of another user", entry["id"])
}

func verify(folder string, keys note.Verifiers) (report string) {
	defer func() {
		if found := recover(); found != nil {
			report = fmt.Sprint("REFUSED: ", found)
		}
	}()
	text, err := os.ReadFile(folder + "/checkpoint")
	must(err == nil, "%v", err)
	tree, last := openCheckpoint(string(text), keys), tlog.Tree{}
	eachLine(folder+"/checkpoints.jsonl", func(number int, l line) {
		next, proof := openCheckpoint(l.Note, keys), hashesOf(l.Proof...)
		isNext := number > 1 && next.N > last.N && tlog.CheckTree(proof, next.N, next.Hash, last.N, last.Hash) == nil
		must(isNext || number == 1 && len(proof) == 0, "checkpoint %d does not continue %d", next.N, last.N)
		last = next
	})
	must(last == tree, "the last checkpoint is not the newest one")
	s, versions, types, complete := seal{}, [3]int{}, map[string]int{}, false
	eachLine(folder+"/log.jsonl", func(number int, l line) {
		entry, _ := l.all["entry"].(map[string]any)
		if number == 1 {
			must(l.Type == "header" && l.Complete != nil, "no header")
			complete = *l.Complete
		} else if l.Type == "seal" {
			must(l.Number > s.Number && (!complete || l.Number == s.Number+1 && s.next == s.Entries+s.Erasures), "line %d: something is missing or repeated before it", number)
			must(tlog.CheckRecord(hashesOf(l.Proof...), tree.N, tree.Hash, l.Number-1, tlog.RecordHash([]byte(l.Row))) == nil, "seal %d is not in the tree", l.Number)
			checkSame(l, l.all, "number root entries erasures sealed_at previous")
			s = seal{}
			decode(l.Row, &s)
		} else if l.Type != "erasure" || l.Seal != nil { // without a seal it is newer than the checkpoint
			must(l.Seal != nil && *l.Seal == s.Number && l.Position != nil && *l.Position >= s.next && (!complete || *l.Position == s.next), "line %d is not in its place", number)
			s.next, types[l.Type] = *l.Position+1, types[l.Type]+1
			id, data, path := l.all["id"], []byte{}, []tlog.Hash{}
			if l.Type == "entry" {
				id = entry["id"]
				must(l.Version == 1 && l.Row == "" || l.Version == 2, "line %d has an unknown version", number)
				versions[l.Version]++
			}
			must(l.Type != "erased" || l.all["erasure"] != nil, "entry %v is missing, without an erasure", id)
			if l.Version == 2 {
				checkEntry(l, entry)
			}
			for _, step := range l.Path {
				path = append(path, hashesOf(step[1])...) // the sides follow from the position
			}
			if l.Type == "erasure" {
				data = bytesOf(strings.ReplaceAll(id.(string), "-", ""))
			} else {
				number, err := id.(json.Number).Int64()
				must(err == nil, "not an id: %v", id)
				data = binary.BigEndian.AppendUint64(data, uint64(number))
			}
			data = append(data, hashesOf(l.Leaf)[0][:]...) // what the line contributes to the tree
			isOfType := l.Type == "erasure" && *l.Position >= s.Entries || (l.Type == "entry" || l.Type == "erased") && *l.Position < s.Entries
			must(isOfType && tlog.CheckRecord(path, s.Entries+s.Erasures, hashesOf(s.Root)[0], *l.Position, tlog.RecordHash(data)) == nil, "line %d is not under its seal", number)
		}
	})
	must(!complete || s.Number == tree.N && s.next == s.Entries+s.Erasures, "something is missing at the end")
	return fmt.Sprintf("accepted: %d seals, %d entries, %d erased (complete: %v, of version 1: %d)", tree.N, types["entry"], types["erased"], complete, versions[1])
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err == nil, "%v", err)
	var known []note.Verifier
	for _, key := range strings.Fields(string(text)) {
		if verifier, err := note.NewVerifier(key); err == nil { // no key of a witness
			known = append(known, verifier)
		}
	}
	for _, folder := range os.Args[2:] {
		report := verify(folder, note.VerifierList(known...))
		fmt.Printf("%s: %s\n", folder, report)
		if strings.HasPrefix(report, "REFUSED") {
			defer os.Exit(1)
		}
	}
}
