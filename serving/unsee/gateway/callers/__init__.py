"""Who calls and what they may have: settings, credentials, permission, admission, requests."""
