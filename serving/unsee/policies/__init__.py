"""The revisions of a policy: publish, gate, promote, roll back, retire, repair, follow."""
