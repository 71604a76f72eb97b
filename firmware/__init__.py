"""The box: its sensors, fan and power mode, its watchdog, and the systemd units it runs under. Imports nothing of ours."""
