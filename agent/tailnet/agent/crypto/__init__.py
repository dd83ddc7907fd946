"""The seam over the cryptographic libraries; nothing else imports them."""
