"""Why a packet gets where it should, or what stops it: a walk through the plan in force."""
