"""The fleet in other people's languages, made from the catalogue: Sparkplug B 3.0 and Home Assistant over MQTT, every metric of every box
for Prometheus. The controller alone speaks; the boxes know nothing of it.
"""
