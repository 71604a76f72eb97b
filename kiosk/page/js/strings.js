/** What the page says by itself, by language. The avatar's own words come from the experience pack. */

export const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français", es: "Español" };

const EN = {
  welcome: "Hello!", welcomeText: "Talk to me, or touch. I am a computer, not a person.",
  talk: "Talk", type: "Type", stop: "Stop", captions: "Captions", volume: "Volume", language: "Language", staff: "Call staff", startOver: "Start over",
  notice: "You are talking to a computer with a made-up face. The microphone is on so that it can hear you; nothing you say is recorded or leaves this machine.",
  noticeOk: "OK", noticeNoMic: "Without microphone",
  idle: "Ready", attentive: "Ready", listening: "Listening", thinking: "Thinking", speaking: "Speaking",
  micOn: "Microphone on", micOff: "Microphone off", you: "You", face: "The assistant's face", conversation: "Conversation", controls: "Controls",
  typeLabel: "Your question", send: "Send", close: "Close", contrast: "High contrast", lowReach: "Everything within low reach", stillFace: "Still picture",
  holdMode: "Hold a button to talk", hold: "Hold to talk", textSize: "Text size", smaller: "Smaller text", larger: "Larger text",
  quieter: "Quieter", louder: "Louder", size: ["Normal", "Large", "Largest"],
  stillThere: "Are you still there?", stillThereText: "Otherwise I will forget this conversation.", stay: "I am still here",
  seconds: (n) => `${n} s`, offline: "One moment, please", offlineText: "The connection is being restored.",
  startTitle: "Touch to start", startText: "The browser needs one touch before it may play sound.", start: "Start",
  busyTitle: "Already open on another screen", busyText: "This kiosk shows itself on one screen at a time.", take: "Take over here",
  replacedTitle: "Continued on another screen", replacedText: "Another page has taken over.", takeBack: "Take it back",
  calling: "Calling a member of staff …", paused: "Picture paused", number: "Number", staffComing: "A member of staff has been called.", yes: "Yes", no: "No", keys: "Keyboard", space: "Space", shift: "Shift", back: "Delete",
  "mic-denied": "The microphone is not available. You can type or touch.",
  "mic-unplugged": "The microphone is not connected. You can type or touch.",
  "no-hearing": "I cannot hear you at the moment. You can type or touch.",
  "no-voice": "I cannot speak at the moment. Please read my answers.",
};

const DE = {
  welcome: "Hallo!", welcomeText: "Sprechen Sie mit mir, oder tippen Sie. Ich bin ein Computer, kein Mensch.",
  talk: "Sprechen", type: "Tippen", stop: "Stopp", captions: "Untertitel", volume: "Lautstärke", language: "Sprache", staff: "Personal rufen", startOver: "Neu beginnen",
  notice: "Sie sprechen mit einem Computer mit erfundenem Gesicht. Das Mikrofon ist an, damit er Sie hört; nichts wird aufgezeichnet oder verlässt dieses Gerät.",
  noticeOk: "OK", noticeNoMic: "Ohne Mikrofon",
  idle: "Bereit", attentive: "Bereit", listening: "Ich höre zu", thinking: "Ich überlege", speaking: "Ich spreche",
  micOn: "Mikrofon an", micOff: "Mikrofon aus", you: "Sie", face: "Das Gesicht des Assistenten", conversation: "Gespräch", controls: "Bedienung",
  typeLabel: "Ihre Frage", send: "Senden", close: "Schließen", contrast: "Hoher Kontrast", lowReach: "Alles in niedriger Höhe", stillFace: "Stehendes Bild",
  holdMode: "Zum Sprechen Taste halten", hold: "Zum Sprechen halten", textSize: "Schriftgröße", smaller: "Kleinere Schrift", larger: "Größere Schrift",
  quieter: "Leiser", louder: "Lauter", size: ["Normal", "Groß", "Sehr groß"],
  stillThere: "Sind Sie noch da?", stillThereText: "Sonst vergesse ich dieses Gespräch.", stay: "Ich bin noch da",
  seconds: (n) => `${n} s`, offline: "Einen Moment bitte", offlineText: "Die Verbindung wird wiederhergestellt.",
  startTitle: "Zum Starten berühren", startText: "Der Browser braucht eine Berührung, bevor er Ton abspielen darf.", start: "Starten",
  busyTitle: "Schon auf einem anderen Bildschirm offen", busyText: "Dieser Kiosk zeigt sich nur auf einem Bildschirm.", take: "Hierher holen",
  replacedTitle: "Geht auf einem anderen Bildschirm weiter", replacedText: "Eine andere Seite hat übernommen.", takeBack: "Zurückholen",
  calling: "Personal wird gerufen …", paused: "Bild angehalten", number: "Nummer", staffComing: "Das Personal ist gerufen.", yes: "Ja", no: "Nein", keys: "Tastatur", space: "Leertaste", shift: "Umschalten", back: "Löschen",
  "mic-denied": "Das Mikrofon ist nicht verfügbar. Sie können tippen.",
  "mic-unplugged": "Das Mikrofon ist nicht angeschlossen. Sie können tippen.",
  "no-hearing": "Ich höre Sie gerade nicht. Sie können tippen.",
  "no-voice": "Ich kann gerade nicht sprechen. Bitte lesen Sie meine Antworten.",
};

const FR = {
  welcome: "Bonjour !", welcomeText: "Parlez-moi, ou touchez l'écran. Je suis un ordinateur, pas une personne.",
  talk: "Parler", type: "Écrire", stop: "Stop", captions: "Sous-titres", volume: "Volume", language: "Langue", staff: "Appeler un vendeur", startOver: "Recommencer",
  notice: "Vous parlez à un ordinateur au visage inventé. Le microphone est ouvert pour vous entendre ; rien n'est enregistré ni ne quitte cet appareil.",
  noticeOk: "OK", noticeNoMic: "Sans microphone",
  idle: "Prêt", attentive: "Prêt", listening: "J'écoute", thinking: "Je réfléchis", speaking: "Je parle",
  micOn: "Micro ouvert", micOff: "Micro coupé", you: "Vous", face: "Le visage de l'assistant", conversation: "Conversation", controls: "Commandes",
  typeLabel: "Votre question", send: "Envoyer", close: "Fermer", contrast: "Contraste élevé", lowReach: "Tout à portée basse", stillFace: "Image fixe",
  holdMode: "Maintenir un bouton pour parler", hold: "Maintenir pour parler", textSize: "Taille du texte", smaller: "Texte plus petit", larger: "Texte plus grand",
  quieter: "Moins fort", louder: "Plus fort", size: ["Normale", "Grande", "Très grande"],
  stillThere: "Êtes-vous encore là ?", stillThereText: "Sinon, j'oublierai cette conversation.", stay: "Je suis là",
  seconds: (n) => `${n} s`, offline: "Un instant, s'il vous plaît", offlineText: "La connexion est en cours de rétablissement.",
  startTitle: "Touchez pour commencer", startText: "Le navigateur attend un geste avant de jouer du son.", start: "Commencer",
  busyTitle: "Déjà ouvert sur un autre écran", busyText: "Cette borne s'affiche sur un seul écran à la fois.", take: "Continuer ici",
  replacedTitle: "La suite est sur un autre écran", replacedText: "Une autre page a pris le relais.", takeBack: "Reprendre ici",
  calling: "Appel d'un vendeur …", paused: "Image en pause", number: "Numéro", staffComing: "Un vendeur a été appelé.", yes: "Oui", no: "Non", keys: "Clavier", space: "Espace", shift: "Majuscules", back: "Effacer",
  "mic-denied": "Le microphone n'est pas disponible. Vous pouvez écrire ou toucher.",
  "mic-unplugged": "Le microphone n'est pas branché. Vous pouvez écrire ou toucher.",
  "no-hearing": "Je ne vous entends pas pour le moment. Vous pouvez écrire ou toucher.",
  "no-voice": "Je ne peux pas parler pour le moment. Lisez mes réponses.",
};

const ES = {
  welcome: "¡Hola!", welcomeText: "Hábleme o toque la pantalla. Soy un ordenador, no una persona.",
  talk: "Hablar", type: "Escribir", stop: "Parar", captions: "Subtítulos", volume: "Volumen", language: "Idioma", staff: "Llamar al personal", startOver: "Empezar de nuevo",
  notice: "Habla con un ordenador de rostro inventado. El micrófono está abierto para oírle; nada se graba ni sale de este aparato.",
  noticeOk: "OK", noticeNoMic: "Sin micrófono",
  idle: "Listo", attentive: "Listo", listening: "Escucho", thinking: "Pienso", speaking: "Hablo",
  micOn: "Micrófono abierto", micOff: "Micrófono cerrado", you: "Usted", face: "El rostro del asistente", conversation: "Conversación", controls: "Controles",
  typeLabel: "Su pregunta", send: "Enviar", close: "Cerrar", contrast: "Alto contraste", lowReach: "Todo al alcance bajo", stillFace: "Imagen fija",
  holdMode: "Mantener un botón para hablar", hold: "Mantener para hablar", textSize: "Tamaño del texto", smaller: "Texto más pequeño", larger: "Texto más grande",
  quieter: "Más bajo", louder: "Más alto", size: ["Normal", "Grande", "Muy grande"],
  stillThere: "¿Sigue ahí?", stillThereText: "Si no, olvidaré esta conversación.", stay: "Sigo aquí",
  seconds: (n) => `${n} s`, offline: "Un momento, por favor", offlineText: "Se está restableciendo la conexión.",
  startTitle: "Toque para empezar", startText: "El navegador necesita un toque antes de reproducir sonido.", start: "Empezar",
  busyTitle: "Ya está abierto en otra pantalla", busyText: "Este quiosco se muestra en una sola pantalla a la vez.", take: "Continuar aquí",
  replacedTitle: "Continúa en otra pantalla", replacedText: "Otra página ha tomado el relevo.", takeBack: "Recuperar aquí",
  calling: "Llamando al personal …", paused: "Imagen en pausa", number: "Número", staffComing: "Se ha llamado al personal.", yes: "Sí", no: "No", keys: "Teclado", space: "Espacio", shift: "Mayúsculas", back: "Borrar",
  "mic-denied": "El micrófono no está disponible. Puede escribir o tocar.",
  "mic-unplugged": "El micrófono no está conectado. Puede escribir o tocar.",
  "no-hearing": "Ahora no puedo oírle. Puede escribir o tocar.",
  "no-voice": "Ahora no puedo hablar. Lea mis respuestas, por favor.",
};

const ALL = { en: EN, de: DE, fr: FR, es: ES };

/** The strings of a BCP 47 tag's language, English for those the page does not know. */
export const strings = (tag) => ALL[tag.split("-")[0].toLowerCase()] ?? EN;
