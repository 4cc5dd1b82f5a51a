"""The vocabulary that every part of Conduit speaks; it uses no other part."""
